//! A body in chunks.

use memchr::{memchr, memchr2};

use super::take;

/// Reads the marks between the chunks of a body.
#[derive(Default)]
pub(super) struct Chunks {
    next: Next,
    /// Up to here there is no end of a line.
    searched: usize,
    /// The bytes of extensions and trailers so far, and of what is written around sizes.
    extra: usize,
}

/// What comes next.
#[derive(Clone, Copy, Default)]
enum Next {
    /// The line with the size of a chunk.
    #[default]
    Size,
    /// So many bytes of a chunk.
    Data(u64),
    /// The line break after a chunk.
    LineBreak,
    /// The trailers, or the empty line at the end.
    Trailers,
}

/// A body whose chunks are malformed, or have too much around them ([`MAX_EXTRA`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its chunks are malformed")]
pub(in crate::gateway) struct BadChunks;

/// The most bytes of extensions and trailers, and of zeros and spaces around sizes. As a rule there are none or few.
pub(super) const MAX_EXTRA: usize = 16 * 1024;

impl Chunks {
    /// Puts the chunks together that have come, and takes out the marks between them. Returns whether the body is whole.
    /// `end` is where it ends so far, and `read` up to where the bytes have been read.
    pub(super) fn read(
        &mut self,
        bytes: &mut Vec<u8>,
        read: &mut usize,
        end: &mut usize,
    ) -> Result<bool, BadChunks> {
        let is_whole = self.put_together(bytes, read, end)?;
        // Many small chunks would otherwise take several times as much memory as the body.
        bytes.drain(*end..*read);
        self.searched = self.searched.saturating_sub(*read - *end);
        *read = *end;
        Ok(is_whole)
    }

    fn put_together(
        &mut self,
        bytes: &mut [u8],
        read: &mut usize,
        end: &mut usize,
    ) -> Result<bool, BadChunks> {
        loop {
            match &mut self.next {
                Next::Data(left) => {
                    let come = take(left, bytes.len() - *read);
                    bytes.copy_within(*read..*read + come, *end);
                    (*read, *end) = (*read + come, *end + come);
                    if *left > 0 {
                        return Ok(false);
                    }
                    self.next = Next::LineBreak;
                }
                Next::LineBreak => {
                    let rest = bytes.get(*read..).unwrap_or_default();
                    match rest {
                        [b'\r', b'\n', ..] => *read += 2,
                        [] | [b'\r'] => return Ok(false),
                        _ => return Err(BadChunks),
                    }
                    self.next = Next::Size;
                }
                Next::Size => {
                    let Some(line) = self.line(bytes, read)? else { return Ok(false) };
                    let (size, extra) = size(line).ok_or(BadChunks)?;
                    self.extra += extra;
                    self.next = if size == 0 { Next::Trailers } else { Next::Data(size) };
                }
                Next::Trailers => match self.line(bytes, read)? {
                    None => return Ok(false),
                    Some(b"") => return Ok(true),
                    Some(trailer) => self.extra += trailer.len(),
                },
            }
        }
    }

    /// The next line, without its end. `None` if it has not come as a whole.
    fn line<'a>(
        &mut self,
        bytes: &'a [u8],
        read: &mut usize,
    ) -> Result<Option<&'a [u8]>, BadChunks> {
        let start = (*read).max(self.searched);
        let found = memchr(b'\n', bytes.get(start..).unwrap_or_default());
        let end = found.map_or(bytes.len(), |at| start + at + 1);
        self.searched = end;
        let line = bytes.get(*read..end).unwrap_or_default();
        let (text, is_whole) = match line.strip_suffix(b"\r\n") {
            Some(text) => (text, true),
            None => (line.strip_suffix(b"\r").unwrap_or(line), false),
        };
        let is_size = matches!(self.next, Next::Size);
        // What is no size shows before the end of its line, which may never come.
        let is_bad = memchr2(b'\r', b'\n', text).is_some()
            || (!is_size && memchr(b'\0', text).is_some())
            || (is_size && !line.is_empty() && size(text).is_none())
            || self.extra + text.len() > MAX_EXTRA;
        if is_bad {
            return Err(BadChunks);
        }
        if is_whole {
            *read = end;
        }
        Ok(is_whole.then_some(text))
    }
}

/// The size in a line, and how many bytes are beside it: zeros before it, spaces, and extensions. The line may be the
/// beginning of one.
fn size(line: &[u8]) -> Option<(u64, usize)> {
    let zeros = line.iter().take_while(|byte| **byte == b'0').count();
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at_checked(digits)?;
    let size = u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    let spaces = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let extensions = rest.get(spaces..)?;
    matches!(extensions, [] | [b';', ..]).then_some((size, zeros + rest.len()))
}
