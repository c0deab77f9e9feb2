//! The heads of an answer: its interim answers (HTTP 1xx), and the status line and the header lines of the last one.
//!
//! Servers write them in many ways. What does not have to matter does not matter: a line that is not one of a header that
//! the bridge uses may be anything, as long as it has no NUL and no lone CR, with which lines could be hidden in a line.

mod fields;

use std::{mem, ops::Range};

use http::{HeaderMap, StatusCode, Version};
use memchr::memchr;

use self::fields::Fields;

/// What the head of an answer says.
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    /// The headers that the bridge or its doctor reads. Some are secret.
    pub(super) headers: HeaderMap,
    pub(super) length: Length,
    /// Whether the server keeps the connection open after the answer.
    pub(super) keeps_open: bool,
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// After so many bytes.
    Bytes(u64),
    /// After the last of its chunks.
    Chunked,
    /// Where the connection ends.
    ToTheEnd,
}

/// Why no answer comes of what a gateway sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadHead {
    /// More interim answers than any server sends.
    #[error("the gateway sent more than {MAX_INTERIM} interim answers (HTTP 1xx)")]
    Interim,
    /// A longer head than any server sends.
    #[error("the gateway sent headers of more than {} KiB", MAX_HEAD_BYTES / 1024)]
    TooLong,
    /// Another protocol.
    #[error("invalid HTTP version parsed")]
    Version,
    /// A status line without a status, or with control characters.
    #[error("invalid HTTP status-code parsed")]
    Status,
    /// A NUL or a lone CR in a line.
    #[error("invalid HTTP header parsed")]
    Line,
    /// A length that is no number, or two different ones.
    #[error("invalid content-length parsed")]
    Length,
    /// A transfer coding in HTTP/1.0, which has none.
    #[error("unexpected transfer-encoding parsed")]
    TransferEncoding,
}

/// Reads heads line by line, as they come.
#[derive(Default)]
pub(super) struct HeadReader {
    /// Where the line begins that has not come as a whole.
    line: usize,
    /// Up to here it has no end.
    searched: usize,
    /// The header line before it, which it may continue. Empty after a status line.
    before: Range<usize>,
    /// The head that has begun.
    begun: Option<Begun>,
    /// The interim answers since the request.
    interim: usize,
}

/// A head whose status line has come.
struct Begun {
    status: StatusCode,
    version: Version,
    fields: Fields,
}

/// The most bytes of headers before an answer's body. No gateway sends more.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The most interim answers to one request. A server that works on it for a minute may send one each
/// second.
const MAX_INTERIM: usize = 100;

impl HeadReader {
    /// Reads on. `bytes` are all that have come since the request. Returns the head once it is complete, with where it
    /// ends.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> Result<Option<(Head, usize)>, BadHead> {
        while let Some(length) = memchr(b'\n', part(bytes, self.searched..bytes.len())) {
            let end = self.searched + length + 1;
            let line = self.line..end;
            (self.line, self.searched) = (end, end);
            if end > MAX_HEAD_BYTES {
                return Err(BadHead::TooLong);
            }
            if let Some(head) = self.read_line(bytes, line)? {
                return Ok(Some((head, end)));
            }
        }
        self.searched = bytes.len();
        if bytes.len() > MAX_HEAD_BYTES {
            return Err(BadHead::TooLong);
        }
        // Whoever speaks another protocol may send no end of a line, and wait.
        let rest = part(bytes, self.line..bytes.len());
        let may_begin = self.begun.is_some() || rest == b"\r" || may_begin(rest);
        may_begin.then_some(None).ok_or(BadHead::Version)
    }

    /// Reads a line. Returns the head if it is the empty line at its end.
    fn read_line(&mut self, bytes: &mut [u8], line: Range<usize>) -> Result<Option<Head>, BadHead> {
        let text = part(bytes, line.clone());
        let is_blank = matches!(text, b"\r\n" | b"\n");
        let Some(begun) = &mut self.begun else {
            // Empty lines before a status line are not part of the answer.
            if !is_blank {
                let (version, status) = status_line(text)?;
                self.begun = Some(Begun { status, version, fields: Fields::default() });
            }
            return Ok(None);
        };
        // A line without a colon is no header that could be continued; before the first one there is none at all.
        let has_colon = |line| memchr(b':', part(bytes, line)).is_some();
        if matches!(text, [b' ' | b'\t', ..]) && has_colon(self.before.clone()) {
            unfold(bytes, self.before.end);
            self.before.end = line.end;
            return Ok(None);
        }
        let before = mem::replace(&mut self.before, line);
        begun.fields.add(part(bytes, before))?;
        if !is_blank {
            return Ok(None);
        }
        self.before = 0..0;
        self.begun.take().map_or(Ok(None), |begun| self.end(begun))
    }

    /// Ends a head. `None` if it is that of an interim answer.
    fn end(&mut self, begun: Begun) -> Result<Option<Head>, BadHead> {
        let Begun { status, version, fields } = begun;
        // After 101 the connection speaks another protocol, and no answer comes.
        let switches = status == StatusCode::SWITCHING_PROTOCOLS;
        if status.is_informational() && !switches {
            self.interim += 1;
            return if self.interim > MAX_INTERIM { Err(BadHead::Interim) } else { Ok(None) };
        }
        let keeps_open = fields.keeps_open(version) && !switches;
        let length = match status {
            StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => {
                Length::Bytes(0)
            }
            _ => fields.length(version)?,
        };
        Ok(Some(Head { status, version, headers: fields.into_headers(), length, keeps_open }))
    }
}

fn part(bytes: &[u8], range: Range<usize>) -> &[u8] {
    bytes.get(range).unwrap_or_default()
}

/// Puts spaces in the place of the end of the line that ends here.
fn unfold(bytes: &mut [u8], end: usize) {
    let line = bytes.get_mut(..end).unwrap_or_default();
    for byte in line.iter_mut().rev().take(2).filter(|byte| matches!(byte, b'\r' | b'\n')) {
        *byte = b' ';
    }
}

/// Whether a status line may begin with this.
fn may_begin(line: &[u8]) -> bool {
    line.iter().zip(b"HTTP/1.").all(|(byte, expected)| byte.eq_ignore_ascii_case(expected))
}

/// Reads a status line, in capitals or not, with any number of spaces before the status.
fn status_line(line: &[u8]) -> Result<(Version, StatusCode), BadHead> {
    let (version, rest) = line.split_at_checked("HTTP/1.1".len()).ok_or(BadHead::Version)?;
    let version = match version {
        _ if version.eq_ignore_ascii_case(b"HTTP/1.1") => Version::HTTP_11,
        _ if version.eq_ignore_ascii_case(b"HTTP/1.0") => Version::HTTP_10,
        _ => return Err(BadHead::Version),
    };
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    let rest = rest.get(spaces..).filter(|_| spaces > 0).ok_or(BadHead::Version)?;
    let (status, phrase) = rest.split_at_checked(3).ok_or(BadHead::Status)?;
    let status = StatusCode::from_bytes(status).map_err(|_| BadHead::Status)?;
    let phrase = without_end(phrase);
    let is_separate = phrase.first().is_none_or(|byte| *byte == b' ');
    let is_good = is_separate && phrase.iter().all(|byte| is_text(*byte));
    is_good.then_some((version, status)).ok_or(BadHead::Status)
}

/// A line without its end.
fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Whether a phrase or a value may have this byte, which is no control character.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

#[cfg(test)]
mod tests;
