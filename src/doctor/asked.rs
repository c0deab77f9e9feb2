//! Whether a gateway asks for a certificate of the bridge's, which the library does not tell.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rustls::{ClientConfig, SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};

/// The bridge's own certificate, and whether it was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    own: Arc<dyn ResolvesClientCert>,
    asked: AtomicBool,
}

impl Asked {
    pub(super) fn of(config: &ClientConfig) -> Self {
        let own = config.client_auth_cert_resolver.clone();
        Self { own, asked: AtomicBool::new(false) }
    }

    pub(super) fn load(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for Asked {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.own.resolve(root_hint_subjects, schemes)
    }

    fn has_certs(&self) -> bool {
        // Else the library does not ask.
        true
    }
}
