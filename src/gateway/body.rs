//! The body of an answer, by its length, in chunks, or to the end of the connection.

mod chunks;

use std::ops::Range;

use self::chunks::{BadChunks, Chunks};
use super::head::Length;

/// Reads a body as it comes, in the place where it comes.
pub(super) struct BodyReader {
    kind: Kind,
    /// Where the body is, as far as it has come. The marks between its chunks are taken out.
    place: Range<usize>,
    /// Up to here the bytes have been read.
    read: usize,
}

enum Kind {
    /// So many bytes are still to come.
    Bytes(u64),
    ToTheEnd,
    Chunks(Chunks),
}

impl BodyReader {
    /// For a body that begins here.
    pub(super) fn new(length: Length, start: usize) -> Self {
        let kind = match length {
            Length::Bytes(bytes) => Kind::Bytes(bytes),
            Length::Chunked => Kind::Chunks(Chunks::default()),
            Length::ToTheEnd => Kind::ToTheEnd,
        };
        Self { kind, place: start..start, read: start }
    }

    /// Reads on, and returns whether the body is whole. `bytes` are what has come since the request, without what this
    /// has taken out.
    pub(super) fn read(&mut self, bytes: &mut Vec<u8>) -> Result<bool, BadChunks> {
        match &mut self.kind {
            Kind::Bytes(left) => {
                self.read += take(left, bytes.len() - self.read);
                self.place.end = self.read;
                Ok(*left == 0)
            }
            Kind::ToTheEnd => {
                self.read = bytes.len();
                self.place.end = self.read;
                Ok(false)
            }
            Kind::Chunks(chunks) => chunks.read(bytes, &mut self.read, &mut self.place.end),
        }
    }

    /// What has come of the body.
    pub(super) fn place(&self) -> Range<usize> {
        self.place.clone()
    }

    /// Whether something has come after the body.
    pub(super) fn is_followed(&self, bytes: &[u8]) -> bool {
        self.read < bytes.len()
    }

    /// Whether the body ends where the connection does.
    pub(super) fn is_to_the_end(&self) -> bool {
        matches!(self.kind, Kind::ToTheEnd)
    }
}

/// Takes so many bytes of those that have come as are left.
fn take(left: &mut u64, come: usize) -> usize {
    let taken = usize::try_from(*left).map_or(come, |left| left.min(come));
    *left -= taken as u64;
    taken
}

#[cfg(test)]
mod tests;
