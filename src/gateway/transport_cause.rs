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
