//! The root cause of a transport error.

use std::{error::Error, io};

/// The cause that a person can act on: the TLS or I/O error at the bottom, without the layers
/// above.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    if let Some(tls) = find::<rustls::Error>(error) {
        return format!("TLS: {tls}{}", remedy(tls));
    }
    if find::<io::Error>(error).is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof) {
        return "the gateway closed the connection".into();
    }
    let mut bottom = error;
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    bottom.to_string()
}

fn remedy(error: &rustls::Error) -> &'static str {
    use rustls::{CertificateError as Certificate, Error as Tls};
    match error {
        Tls::InvalidCertificate(
            Certificate::UnknownIssuer | Certificate::ApplicationVerificationFailure,
        ) => " (set the tenant's tls.ca_file or tls.pinned_sha256)",
        Tls::InvalidCertificate(Certificate::Other(_)) => {
            " (a self-signed certificate has to be pinned: the tenant's tls.pinned_sha256)"
        }
        Tls::AlertReceived(_) => " (the gateway ended the handshake)",
        _ => "",
    }
}

/// Finds an error of type `E` among the causes. Also looks inside `io::Error`, which does not
/// report what it wraps as its `source`.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}
