//! Certificates for a simulated gateway: good ones, and the usual bad ones.

use std::{fmt, io, sync::Arc};

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

/// A server's certificate chain and key, and the certificate that a client has to trust.
#[derive(Clone)]
pub struct ServerIdentity {
    trust_pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

/// The kinds of certificate a gateway may present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CertificateKind {
    /// A leaf for localhost, 127.0.0.1 and `::1`, signed by a CA of its own.
    #[value(help = "For localhost, 127.0.0.1 and ::1, signed by a CA of its own")]
    Signed,
    /// A self-signed CA certificate that the server uses itself. Real gateways usually have self-signed
    /// certificates (client), often without the extensions of a leaf.
    #[value(help = "Self-signed, and a CA certificate itself, as real gateways often have")]
    SelfSigned,
    /// Like [`Self::Signed`], but it expired in 2024.
    #[value(help = "Like signed, but it expired in 2024")]
    Expired,
    /// Like [`Self::Signed`], but for the host `gateway.invalid`.
    #[value(help = "Like signed, but for the host gateway.invalid")]
    OtherHost,
}

const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const OTHER_NAMES: [&str; 1] = ["gateway.invalid"];

// === impl ServerIdentity ===

impl ServerIdentity {
    /// Makes a certificate of the given kind, with a new key.
    pub fn generate(kind: CertificateKind) -> io::Result<Self> {
        generate(kind).map_err(io::Error::other)
    }

    /// Uses a chain (leaf first) and its key, both PEM. [`Self::trust_pem`] then returns the chain.
    pub fn from_pem(chain: &str, key: &str) -> io::Result<Self> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
        let certificates = read.map_err(invalid)?;
        if certificates.is_empty() {
            return Err(invalid("the PEM text holds no certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(invalid)?;
        Ok(Self { trust_pem: chain.into(), chain: certificates, key: Arc::new(key) })
    }

    /// The certificate that a client has to trust, as PEM.
    pub fn trust_pem(&self) -> &str {
        &self.trust_pem
    }

    /// SHA-256 of the leaf certificate, for clients that pin it.
    pub fn leaf_sha256(&self) -> [u8; 32] {
        let leaf = self.chain.first().map_or(&[][..], AsRef::as_ref);
        let mut sum = [0; 32];
        sum.copy_from_slice(digest::digest(&digest::SHA256, leaf).as_ref());
        sum
    }

    /// The TLS settings of a server with this identity. With `client_ca`, which is PEM, it accepts only
    /// clients with a certificate of these authorities.
    pub(super) fn server_config(&self, client_ca: Option<&str>) -> io::Result<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = match client_ca {
            Some(pem) => client_verifier(pem)?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        // No ALPN: an old gateway answers HTTP/1.1 whatever the client offers.
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_client_cert_verifier(clients)
                    .with_single_cert(self.chain.clone(), self.key.clone_key())
            })
            .map_err(invalid)
    }

    fn new(trust: &Certificate, chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Self {
        Self {
            trust_pem: trust.pem(),
            chain,
            key: Arc::new(PrivateKeyDer::Pkcs8(key.serialize_der().into())),
        }
    }
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdentity")
            .field("certificates", &self.chain.len())
            .finish_non_exhaustive()
    }
}

/// Accepts clients with a certificate of these authorities; `pem` holds at least one.
fn client_verifier(pem: &str) -> io::Result<Arc<dyn ClientCertVerifier>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(pem)?), provider);
    builder.build().map_err(invalid)
}

/// The authorities with these certificates; `pem` holds at least one.
pub(super) fn authorities(pem: &str) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(invalid)?).map_err(invalid)?;
    }
    if roots.is_empty() { Err(invalid("the PEM text holds no certificate")) } else { Ok(roots) }
}

fn generate(kind: CertificateKind) -> Result<ServerIdentity, rcgen::Error> {
    let key = KeyPair::generate()?;
    if kind == CertificateKind::SelfSigned {
        let certificate = ca_params(&LOCAL_NAMES, "localhost")?.self_signed(&key)?;
        let chain = vec![certificate.der().clone()];
        return Ok(ServerIdentity::new(&certificate, chain, &key));
    }

    let names =
        if kind == CertificateKind::OtherHost { &OTHER_NAMES[..] } else { &LOCAL_NAMES[..] };
    let ca_params = ca_params(&[], "ccgateway-sim CA")?;
    let ca = CertifiedIssuer::self_signed(ca_params, KeyPair::generate()?)?;
    let mut params = params(names, "ccgateway-sim")?;
    if kind == CertificateKind::Expired {
        params.not_after = date_time_ymd(2024, 1, 1);
    }
    let leaf = params.signed_by(&key, &ca)?;
    Ok(ServerIdentity::new(ca.as_ref(), vec![leaf.der().clone()], &key))
}

fn params(names: &[&str], common_name: &str) -> Result<CertificateParams, rcgen::Error> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    Ok(params)
}

fn ca_params(names: &[&str], common_name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(names, common_name)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_can_be_read_from_pem() {
        let key = KeyPair::generate().unwrap();
        let own = ca_params(&LOCAL_NAMES, "own").unwrap().self_signed(&key).unwrap();
        let identity = ServerIdentity::from_pem(&own.pem(), &key.serialize_pem()).unwrap();
        assert_eq!(identity.trust_pem(), own.pem());
        assert!(identity.server_config(None).is_ok());

        assert!(identity.server_config(Some(&own.pem())).is_ok());
        for no_certificate in ["", &key.serialize_pem(), "-----BEGIN CERTIFICATE-----"] {
            assert!(identity.server_config(Some(no_certificate)).is_err(), "{no_certificate}");
        }

        assert!(ServerIdentity::from_pem("", &key.serialize_pem()).is_err());
        let other = KeyPair::generate().unwrap().serialize_pem();
        let mismatched = ServerIdentity::from_pem(&own.pem(), &other).unwrap();
        assert!(mismatched.server_config(None).is_err());
    }
}
