//! The header lines of one head.

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{
        CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER,
        SET_COOKIE, TRANSFER_ENCODING,
    },
};
use memchr::{memchr, memchr2};

use super::{BadHead, Length, is_text, without_end};

/// What the header lines so far say.
#[derive(Default)]
pub(super) struct Fields {
    headers: HeaderMap,
    /// The length of the body; `Err` if it is no number, or there are two different ones.
    length: Option<Result<u64, BadHead>>,
    /// Whether the last transfer coding is `chunked`. `None` if there is none.
    chunked: Option<bool>,
    closes: bool,
    keeps: bool,
}

/// The headers that the bridge or its doctor uses.
static USED: [HeaderName; 13] = [
    CONNECTION,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    CONTENT_ENCODING,
    CONTENT_TYPE,
    DATE,
    HeaderName::from_static("guid"),
    HeaderName::from_static("json-type"),
    HeaderName::from_static("keep-alive"),
    LOCATION,
    RETRY_AFTER,
    SET_COOKIE,
    HeaderName::from_static("set-guid"),
];
/// The most headers that are kept. Each that the bridge uses comes once or a few times.
const MAX_HEADERS: usize = 100;

impl Fields {
    /// Takes in a header line, with those that continue it. One that is invalid is ignored.
    pub(super) fn add(&mut self, line: &[u8]) -> Result<(), BadHead> {
        let line = without_end(line);
        if memchr2(b'\0', b'\r', line).is_some() {
            return Err(BadHead::Line);
        }
        let colon = memchr(b':', line);
        let Some((name, [_, value @ ..])) = colon.and_then(|colon| line.split_at_checked(colon))
        else {
            return Ok(());
        };
        let is_used = |used: &&HeaderName| is(used.as_str(), name.trim_ascii_end());
        if let Some(name) = USED.iter().find(is_used)
            && line.iter().all(|byte| is_text(*byte))
        {
            self.take(name, value.trim_ascii());
        }
        Ok(())
    }

    fn take(&mut self, name: &HeaderName, value: &[u8]) {
        match *name {
            CONNECTION => {
                self.closes |= items(value).any(|item| is("close", item));
                self.keeps |= items(value).any(|item| is("keep-alive", item));
            }
            CONTENT_LENGTH => {
                for length in items(value).map(number) {
                    let is_good = self.length.is_none_or(|known| known == length);
                    self.length = Some(if is_good { length } else { Err(BadHead::Length) });
                }
            }
            // Old servers say so where there is no coding.
            TRANSFER_ENCODING if is("identity", value) => {}
            TRANSFER_ENCODING => {
                self.chunked = Some(items(value).last().is_some_and(|item| is("chunked", item)));
            }
            _ => {
                if self.headers.len() < MAX_HEADERS
                    && let Ok(value) = HeaderValue::from_bytes(value)
                {
                    self.headers.append(name, value);
                }
            }
        }
    }

    /// Where the body ends.
    pub(super) fn length(&self, version: Version) -> Result<Length, BadHead> {
        match (self.chunked, self.length) {
            (Some(_), _) if version == Version::HTTP_10 => Err(BadHead::TransferEncoding),
            (Some(true), _) => Ok(Length::Chunked),
            (Some(false), _) | (None, None) => Ok(Length::ToTheEnd),
            (None, Some(length)) => length.map(Length::Bytes),
        }
    }

    /// Whether the connection stays open, by what is said, or else by the version.
    pub(super) fn keeps_open(&self, version: Version) -> bool {
        !self.closes && (self.keeps || version == Version::HTTP_11)
    }

    pub(super) fn into_headers(self) -> HeaderMap {
        self.headers
    }
}

/// The parts of a list. One that is not of ASCII characters says nothing.
fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let value: &[u8] = if value.is_ascii() { value } else { b"" };
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn is(name: &str, found: &[u8]) -> bool {
    found.eq_ignore_ascii_case(name.as_bytes())
}

fn number(digits: &[u8]) -> Result<u64, BadHead> {
    let are_digits = digits.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(digits).ok().filter(|_| are_digits);
    text.and_then(|text| text.parse().ok()).ok_or(BadHead::Length)
}
