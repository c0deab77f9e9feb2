//! Who issues the certificates of bridge and callers in these tests.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ccgateway_test_support::Certificate;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType, date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
};

/// An authority, whose certificate is in a file.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

/// A certificate of a caller, with its key.
pub(super) type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    pub(super) fn new(name: &str, folder: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = folder.join(format!("{name}.pem")).display().to_string();
        fs::write(&pem, params.self_signed(&key).expect("signed").pem()).expect("written");
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for this SPIFFE id, valid or expired.
    pub(super) fn issue(&self, uri: &str, is_valid: bool) -> Shown {
        let mut params = CertificateParams::default();
        if !is_valid {
            (params.not_before, params.not_after) =
                (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1));
        }
        self.sign(uri, params)
    }

    /// A certificate for this SPIFFE id that is good for so long from now.
    pub(super) fn issue_for(&self, uri: &str, time: Duration) -> Shown {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let mut params = CertificateParams::default();
        params.not_after = date_time_ymd(1970, 1, 1) + now + time;
        self.sign(uri, params)
    }

    fn sign(&self, uri: &str, mut params: CertificateParams) -> Shown {
        params.subject_alt_names.push(SanType::URI(uri.try_into().expect("a URI")));
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let key = key.serialize_der().try_into().expect("a key");
        (vec![certificate.der().clone()], key)
    }
}

/// TLS that trusts the bridge and shows this certificate, or none.
pub(super) fn tls(bridge: &Certificate, shown: Option<Shown>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(bridge.der.clone()).expect("a certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    match shown {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            builder.with_client_auth_cert(chain, key).expect("they belong together")
        }
    }
}
