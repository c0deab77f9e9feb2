//! An answer while it is being read.

use std::time::Duration;

use http::{HeaderMap, StatusCode, Version};

use super::{
    body::BodyReader,
    envelope::Unreadable,
    head::{Head, HeadReader},
    interface::BODY_LIMIT,
    reply::Reply,
};

/// What has come of an answer. It has no `Debug`, since headers and body may have a Guid.
pub(super) struct Answer {
    /// The longest body in bytes, also after its content encoding has been undone.
    limit: usize,
    /// All that has come since the request, except for what the body is rid of.
    bytes: Vec<u8>,
    heads: HeadReader,
    /// Its last head, once that has come, and the body.
    begun: Option<(Head, BodyReader)>,
}

/// How the reading of an answer ended.
#[derive(Debug)]
pub(super) enum End {
    /// With the end of the body.
    Whole,
    /// The body is longer than it may be.
    TooLong,
    /// The connection ended before the answer did, or what came is none. Has the cause as a text.
    Cut(String),
    /// This time limit passed.
    Late(Duration),
}

/// Most answers are shorter. For longer ones there is more room as they come: a poll that waits has one of these, too.
const FEW_BYTES: usize = 512;

impl Default for Answer {
    fn default() -> Self {
        Self::up_to(BODY_LIMIT)
    }
}

impl Answer {
    /// An answer whose body has so many bytes at most.
    pub(super) fn up_to(limit: usize) -> Self {
        Self { limit, bytes: Vec::new(), heads: HeadReader::default(), begun: None }
    }

    /// Room for what comes next.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() - self.bytes.len() < FEW_BYTES / 4 {
            self.bytes.reserve(FEW_BYTES.max(self.bytes.len()));
        }
        &mut self.bytes
    }

    /// Reads on in what has come. Returns how the answer has ended, if it has.
    pub(super) fn advance(&mut self) -> Option<End> {
        if self.begun.is_none() {
            match self.heads.read(&mut self.bytes) {
                Ok(None) => return None,
                Ok(Some((head, end))) => {
                    let body = BodyReader::new(head.length, end);
                    self.begun = Some((head, body));
                }
                Err(bad) => return Some(End::Cut(bad.to_string())),
            }
        }
        let (_, body) = self.begun.as_mut()?;
        match body.read(&mut self.bytes) {
            // Whatever is malformed behind it, which may have come together with it or not.
            _ if body.place().len() > self.limit => Some(End::TooLong),
            Err(bad) => Some(self.cut(&bad.to_string())),
            Ok(is_whole) => is_whole.then_some(End::Whole),
        }
    }

    /// How the answer ends if the gateway closes the connection now.
    pub(super) fn closed(&self) -> End {
        match &self.begun {
            None => End::Cut("connection closed before message completed".into()),
            Some((_, body)) if body.is_to_the_end() => End::Whole,
            Some(_) => self.cut("the gateway closed the connection"),
        }
    }

    /// The end for this cause.
    pub(super) fn cut(&self, cause: &str) -> End {
        let is_begun = self.begun.is_some();
        End::Cut(if is_begun { format!("the answer was cut: {cause}") } else { cause.into() })
    }

    /// The version that the gateway speaks, if it will read another request from the connection after an answer that has
    /// ended in this way, and has sent nothing beyond it.
    pub(super) fn keeps_open(&self, end: &End) -> Option<Version> {
        let (head, body) = self.begun.as_ref()?;
        // The rest of an answer that was not read to its end would be taken for the next answer.
        let has_ended = matches!(end, End::Whole) && !body.is_to_the_end();
        let is_last = !head.keeps_open || body.is_followed(&self.bytes);
        (has_ended && !is_last).then_some(head.version)
    }

    /// Status and headers, once they have come, and what has come of the body.
    pub(super) fn into_parts(self) -> (Option<(StatusCode, HeaderMap)>, Vec<u8>) {
        let Some((head, body)) = self.begun else { return (None, Vec::new()) };
        let body = self.bytes.get(body.place()).unwrap_or_default();
        (Some((head.status, head.headers)), body.to_vec())
    }

    /// The answer. `None` if it was cut.
    ///
    /// A complete JSON object with a retcode is an answer even if its end was not marked: some servers
    /// close TLS without `close_notify`, leave out the last chunk, or promise more bytes than they send.
    pub(super) fn into_reply(self, end: &End) -> Option<Reply> {
        let (limit, (head, body)) = (self.limit, self.begun?);
        let (body, is_whole) = match end {
            End::TooLong => (Err(Unreadable::TooLong { limit }), false),
            _ => (Ok(self.bytes.get(body.place()).unwrap_or_default()), matches!(end, End::Whole)),
        };
        let reply = Reply::new((head.status, head.headers), (body, limit), is_whole);
        let is_cut = matches!(end, End::Cut(_) | End::Late(_)) && reply.envelope.is_err();
        (!is_cut).then_some(reply)
    }
}

#[cfg(test)]
mod tests;
