//! What a transport error says about the request.

use std::{error::Error, io};

use hyper_util::client::legacy;

use crate::call::CallError;

/// Why there is no answer. The variants differ in whether the request had left.
#[derive(Debug)]
pub(super) enum Failure {
    /// It had not; the cause in words.
    NotSent(String),
    /// It had, or may have; the cause in words.
    Sent(String),
    /// It had not, and nobody waits any more.
    Lost(CallError),
}

impl Failure {
    /// Reads the error of a request that got no answer's head.
    pub(super) fn of_request(error: &legacy::Error) -> Self {
        // hyper calls a request "canceled" when its connection closed before the request was
        // taken from the queue: not a byte of it was written.
        let unwritten = find::<hyper::Error>(error).is_some_and(hyper::Error::is_canceled);
        if error.is_connect() || unwritten {
            Self::NotSent(words(error))
        } else {
            Self::Sent(words(error))
        }
    }

    /// Reads the error of an answer whose body was cut.
    pub(super) fn of_body(error: &(dyn Error + 'static)) -> Self {
        Self::Sent(format!("the answer was cut: {}", words(error)))
    }

    /// Corrects a guess: without a connection nothing was sent.
    pub(super) fn unless_sent(self, sent: bool) -> Self {
        match self {
            Self::Sent(cause) if !sent => Self::NotSent(cause),
            other => other,
        }
    }
}

/// The cause that a person can act on: the TLS or I/O error at the bottom, not the layers above.
fn words(error: &(dyn Error + 'static)) -> String {
    if let Some(tls) = find::<rustls::Error>(error) {
        return format!("TLS: {tls}{}", remedy(tls));
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

/// Looks for an error of type `E` among the causes, also inside `io::Error`, which hides what it
/// wraps from `source`.
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
