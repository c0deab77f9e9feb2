//! Answers that tonic gives by itself, for calls that did not reach a method.

use http::{HeaderMap, HeaderName, Response};
use tonic::{Code, Status, body::Body};

use super::{Method, unhandled::Unhandled};
use crate::{
    access::Caller,
    call::{CallError, Unreadable},
};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

impl Unhandled {
    /// Checks an answer on its way out. If no method has made it, it is logged and counted, and
    /// gets the details that every error has.
    ///
    /// Methods answer with a status in the trailers, or with details in the headers. So two header
    /// lookups are enough for most answers.
    pub fn complete(
        &self,
        method: Method,
        caller: &Caller,
        response: Response<Body>,
    ) -> Response<Body> {
        let headers = response.headers();
        if !headers.contains_key(GRPC_STATUS) || headers.contains_key(DETAILS) {
            return response;
        }
        let Some(why) = why(headers) else { return response };
        let record = self.record(Some(method), &HeaderMap::new(), Some(caller.clone()));
        record.refuse(&CallError::unasked(why.into()), &self.0).into_http()
    }
}

/// Why the request reached no method. `None` if it did. Its head and the frame of its message were
/// found to be good before tonic got them.
fn why(headers: &HeaderMap) -> Option<Unreadable> {
    let status = Status::from_header_map(headers)?;
    match status.code() {
        // Reflection cannot be served.
        Code::Unimplemented => Some(Unreadable::MethodUnknown),
        Code::Internal => Some(Unreadable::Malformed(status.message().to_owned())),
        // Health and reflection answer without details, which is fine.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_method_has_answered_is_left_alone() {
        let answer = |status: Status| why(status.into_http::<()>().headers());
        assert_eq!(answer(Status::not_found("no such service")), None);
        assert_eq!(answer(Status::ok("")), None);
        let broken = Unreadable::Malformed("failed to decode".into());
        assert_eq!(answer(Status::internal("failed to decode")), Some(broken));
    }
}
