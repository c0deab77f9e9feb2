//! A reader of a gateway's answers, for the fuzz targets alone.

use http::{HeaderMap, StatusCode, Version};

use super::answer::{Answer, End};

/// An answer, as far as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// The status and the headers that are used; `None` if no head came, or none that is good.
    pub head: Option<(StatusCode, HeaderMap)>,
    /// What came of the body.
    pub body: Vec<u8>,
    /// Why the answer is not whole, if it is not.
    pub cut: Option<String>,
    /// The version of HTTP of the next request, if the connection can carry one.
    pub next: Option<Version>,
}

/// Reads an answer that comes in pieces of this length, and after which the connection is closed.
pub fn read(bytes: &[u8], piece: usize) -> Read {
    let mut answer = Answer::default();
    let mut pieces = bytes.chunks(piece);
    let end = loop {
        let Some(piece) = pieces.next() else { break answer.closed() };
        answer.room().extend_from_slice(piece);
        if let Some(end) = answer.advance() {
            // What follows has come with it, or comes before the next request.
            answer.room().extend(pieces.flatten());
            break end;
        }
    };
    let next = answer.keeps_open(&end);
    let (head, body) = answer.into_parts();
    match end {
        End::Whole => Read { head, body, cut: None, next },
        End::Cut(cause) => Read { head, body, cut: Some(cause), next },
        // How much of it has come depends on the pieces.
        End::TooLong | End::Late(_) => {
            Read { head, body: Vec::new(), cut: Some("the body is too long".into()), next }
        }
    }
}
