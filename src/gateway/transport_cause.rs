//! The root cause of a transport error.

use std::{error::Error, io};

use crate::{config::Trust, error_cause, tls::refused::Refused};

/// The cause that a person can act on: the TLS or I/O error at the bottom, without the layers
/// above.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    if let Some(tls) = find::<rustls::Error>(error) {
        let by_alert = matches!(tls, rustls::Error::AlertReceived(_));
        let ended = if by_alert { " (the gateway ended the handshake)" } else { "" };
        return format!("TLS: {tls}{ended}");
    }
    if find::<io::Error>(error).is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof) {
        return "the gateway closed the connection".into();
    }
    error_cause::innermost(error)
}

/// The same where a connection was opened: says also what to do about a certificate that is not accepted.
pub(super) fn connect_cause(error: &(dyn Error + 'static), trust: &Trust) -> String {
    let Some(rustls::Error::InvalidCertificate(why)) = find(error) else {
        return root_cause(error);
    };
    let refused = Refused::of(why);
    let advice = refused.advice(trust);
    match refused {
        Refused::Key(_) => format!("TLS: the gateway's certificate cannot be used: {advice}"),
        _ => format!("TLS: {} ({advice})", rustls::Error::InvalidCertificate(why.clone())),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{AlertDescription, CertificateError, OtherError};

    use super::*;
    use crate::certificate::UnusableKey;

    /// What a library makes of a cause.
    #[derive(Debug, thiserror::Error)]
    #[error("the request failed")]
    struct Above(#[source] io::Error);

    fn refused(why: CertificateError) -> Above {
        Above(io::Error::other(rustls::Error::InvalidCertificate(why)))
    }

    #[test]
    fn a_cause_is_told_without_the_layers_above_it() {
        let alert = rustls::Error::AlertReceived(AlertDescription::HandshakeFailure);
        let by_alert = format!("TLS: {alert} (the gateway ended the handshake)");
        let early = rustls::Error::HandshakeNotComplete;
        let by_tls = format!("TLS: {early}");
        let [eof, reset] = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
        let by_system = io::Error::from(reset).to_string();
        for (cause, expected) in [
            (io::Error::other(alert), &*by_alert),
            (io::Error::other(early), &*by_tls),
            (io::Error::from(eof), "the gateway closed the connection"),
            (io::Error::from(reset), &*by_system),
        ] {
            let error = Above(cause);
            assert_eq!(root_cause(&error), expected);
            assert_eq!(connect_cause(&error, &Trust::SystemRoots), expected);
        }
    }

    #[test]
    fn a_certificate_that_is_not_accepted_is_told_with_what_to_do() {
        let expired = connect_cause(&refused(CertificateError::Expired), &Trust::SystemRoots);
        assert!(expired.starts_with("TLS: invalid peer certificate: "), "{expired}");
        assert!(expired.contains("have the certificate renewed"), "{expired}");
        let short = OtherError(Arc::new(UnusableKey::TooShort(512)));
        let short = connect_cause(&refused(CertificateError::Other(short)), &Trust::SystemRoots);
        let unusable = "TLS: the gateway's certificate cannot be used: its RSA key has only 512";
        assert!(short.starts_with(unusable), "{short}");
    }
}
