//! Certificates of servers that a test starts.

use std::{fs, path::Path};

use rcgen::generate_simple_self_signed;
use rustls::pki_types::CertificateDer;

/// A self-signed certificate, and its key.
#[derive(Debug)]
pub struct Certificate {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// The file of the certificate, in PEM.
    pub pem: String,
    /// The file of its key, in PEM.
    pub key: String,
}

impl Certificate {
    /// Makes a certificate for this host, with its files in this folder.
    pub fn of(host: &str, folder: &Path) -> Self {
        let own = generate_simple_self_signed([host.to_owned()]).expect("a certificate");
        let path = |name: &str| folder.join(name).display().to_string();
        let (pem, key) = (path("tls.pem"), path("tls.key"));
        fs::write(&pem, own.cert.pem()).expect("written");
        fs::write(&key, own.signing_key.serialize_pem()).expect("written");
        Self { der: own.cert.der().clone(), pem, key }
    }

    /// The TOML table that gives it to a listener of the bridge.
    pub fn table(&self) -> String {
        format!("{{ certificate_file = \"{}\", key_file = \"{}\" }}", self.pem, self.key)
    }
}
