//! The flags about certificates.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{StartError, wrong};
use crate::{CertificateKind, ServerIdentity, identity::authorities};

#[derive(Debug, Args)]
#[command(next_help_heading = "TLS")]
pub(in crate::program) struct TlsFlags {
    /// The kind of certificate to make
    #[arg(long, value_enum, default_value = "signed")]
    certificate: CertificateKind,
    /// Use this chain instead of a made one, PEM, leaf first
    #[arg(long, value_name = "PATH", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The chain's key, PEM
    #[arg(long, value_name = "PATH", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Accept only clients with a certificate of these authorities, PEM
    #[arg(long, value_name = "PATH", conflicts_with = "plain_http")]
    client_ca: Option<PathBuf>,
    /// Send events only to an https pushUrl with a certificate of these authorities, PEM; by default to
    /// any
    #[arg(long, value_name = "PATH")]
    push_ca: Option<PathBuf>,
    /// No TLS at all
    #[arg(long)]
    pub(in crate::program) plain_http: bool,
}

// === impl TlsFlags ===

impl TlsFlags {
    pub(super) fn client_ca(&self) -> Result<Option<String>, StartError> {
        read_authorities("--client-ca", self.client_ca.as_deref())
    }

    pub(super) fn push_ca(&self) -> Result<Option<String>, StartError> {
        read_authorities("--push-ca", self.push_ca.as_deref())
    }

    pub(super) fn identity(&self) -> Result<ServerIdentity, StartError> {
        let (Some(chain), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(ServerIdentity::generate(self.certificate)?);
        };
        let chain_pem = fs::read_to_string(chain)
            .map_err(|error| wrong("--tls-cert", chain.display(), error))?;
        let key_pem =
            fs::read_to_string(key).map_err(|error| wrong("--tls-key", key.display(), error))?;
        ServerIdentity::from_pem(&chain_pem, &key_pem)
            .map_err(|error| wrong("--tls-cert", chain.display(), error))
    }
}

/// The text of a file with certificates of authorities.
fn read_authorities(flag: &str, path: Option<&Path>) -> Result<Option<String>, StartError> {
    let Some(path) = path else {
        return Ok(None);
    };
    let bad = |error| wrong(flag, path.display(), error);
    let pem = fs::read_to_string(path).map_err(bad)?;
    authorities(&pem).map_err(bad)?;
    Ok(Some(pem))
}
