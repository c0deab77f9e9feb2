//! Records whether a gateway asks for a client certificate, which rustls does not report.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rustls::{ClientConfig, SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};

/// Gives the bridge's own certificate to rustls, and records whether the gateway asked for it.
#[derive(Debug)]
pub(super) struct CertificateRequests {
    own: Arc<dyn ResolvesClientCert>,
    asked: AtomicBool,
}

impl CertificateRequests {
    /// Wraps the certificate resolver of `config`.
    pub(super) fn of(config: &ClientConfig) -> Self {
        let own = config.client_auth_cert_resolver.clone();
        Self { own, asked: AtomicBool::new(false) }
    }

    /// Whether the gateway has asked for a certificate so far.
    pub(super) fn seen(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for CertificateRequests {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.own.resolve(root_hint_subjects, schemes)
    }

    fn has_certs(&self) -> bool {
        // If this were false, rustls would not call `resolve`.
        true
    }
}
