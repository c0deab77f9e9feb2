//! The heads of answers, before hyper parses them.
//!
//! hyper reads at most 100 header lines and any number of interim answers (HTTP 1xx). Servers send more
//! of the former, and a broken or hostile one sends the latter without end. So the lines are looked at
//! on their way to hyper: interim answers are left out and counted, and of a head with many lines only
//! those that the bridge uses are passed on.

mod lines;

use memchr::memchr;

use self::lines::{
    is_fold, is_interim, is_no_transfer_coding, is_status_line, is_used, mend_status_line,
};

/// Follows the bytes of a connection through the heads of its answers.
#[derive(Debug, Default)]
pub struct Heads {
    place: Place,
    /// The bytes of all heads since the request, and of the lines that were left out.
    bytes: usize,
    /// The lines of this head so far.
    lines: usize,
    /// How many of them were passed on.
    kept: usize,
    /// The interim answers since the request.
    interim: usize,
    /// Whether this head is that of an interim answer.
    is_interim: bool,
    /// Whether the last line was passed on, so that one that continues it is too.
    has_kept: bool,
    held: Held,
}

/// Where in an answer the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Not in a head: in a body, or where no answer is expected.
    #[default]
    Outside,
    /// At the start of a line.
    Start,
    /// In a line that is passed on.
    Kept,
    /// In a line that is left out.
    Dropped,
}

/// The beginning of a line of which too little has come to decide about it.
#[derive(Debug)]
struct Held {
    bytes: [u8; DECISIVE],
    length: usize,
}

/// Why no answer comes of what a gateway sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// More interim answers than any server sends.
    #[error("the gateway sent more than {MAX_INTERIM} interim answers (HTTP 1xx)")]
    Interim,
    /// A longer head than any server sends.
    #[error("the gateway sent headers of more than {} KiB", MAX_HEAD_BYTES / 1024)]
    TooLong,
}

/// The most bytes of headers before an answer's body. No gateway sends more.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The most interim answers to one request. A server that works on it for a minute may send one each
/// second.
const MAX_INTERIM: usize = 100;
/// How many lines of a head are passed on whatever they are.
const FEW_LINES: usize = 64;
/// How many lines of a head are passed on at all. hyper takes 100, without the status line.
const MAX_LINES: usize = 96;
/// So many bytes of a line are enough to decide about it.
const DECISIVE: usize = 64;

impl Heads {
    /// Expects an answer. Called when a request is about to be written.
    pub fn begin(&mut self) {
        *self = Self { place: Place::Start, ..Self::default() };
    }

    /// The beginning of a line that has to be put before the next bytes.
    pub fn held(&self) -> &[u8] {
        self.held.bytes.get(..self.held.length).unwrap_or_default()
    }

    /// Whether the bytes need not be looked at.
    pub(super) fn is_outside(&self) -> bool {
        self.place == Place::Outside
    }

    /// Takes bytes that were read, which begin with those that were held. Moves those that are to be
    /// passed on to the front, and returns how many they are.
    ///
    /// # Errors
    ///
    /// [`BadHead`] if the connection has to be closed.
    pub fn pass(&mut self, bytes: &mut [u8]) -> Result<usize, BadHead> {
        self.held.length = 0;
        let (mut read, mut kept) = (0, 0);
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            if self.place == Place::Outside {
                let length = rest.len();
                return Ok(keep(bytes, read, kept, length));
            }
            let end = memchr(b'\n', rest);
            let length = end.map_or(rest.len(), |at| at + 1);
            let (piece, _) = rest.split_at_mut(length);
            let starts = self.place == Place::Start;
            if starts && end.is_none() && self.hold(piece) {
                break;
            }
            let is_blank = starts && matches!(&*piece, b"\r\n" | b"\n");
            if starts {
                self.place = self.judge(piece, is_blank)?;
            }
            self.bytes += length;
            if self.bytes > MAX_HEAD_BYTES {
                return Err(BadHead::TooLong);
            }
            if self.place == Place::Kept {
                kept = keep(bytes, read, kept, length);
            }
            read += length;
            if end.is_some() {
                self.end_line(is_blank);
            }
        }
        Ok(kept)
    }

    /// Holds the beginning of a line back if more of it is needed to decide about it.
    fn hold(&mut self, piece: &[u8]) -> bool {
        let undecided = match piece {
            b"\r" => true,
            _ if self.lines == 0 => is_status_line(piece) && piece.len() < DECISIVE,
            _ if self.is_interim => false,
            _ => piece.len() < DECISIVE && !is_fold(piece) && self.looks_at(piece),
        };
        if undecided && let Some(held) = self.held.bytes.get_mut(..piece.len()) {
            held.copy_from_slice(piece);
            self.held.length = piece.len();
        }
        undecided
    }

    /// Whether the rest of this header line matters.
    fn looks_at(&self, piece: &[u8]) -> bool {
        let may_be_transfer_encoding = piece.first().is_some_and(|b| b.eq_ignore_ascii_case(&b't'));
        may_be_transfer_encoding || (self.lines >= FEW_LINES && memchr(b':', piece).is_none())
    }

    /// Decides about a line by its beginning, of which enough has come.
    fn judge(&mut self, piece: &mut [u8], is_blank: bool) -> Result<Place, BadHead> {
        if is_blank {
            // Empty lines before a status line are not part of the answer.
            let ends = self.lines > 0 && !self.is_interim;
            return Ok(if ends { Place::Kept } else { Place::Dropped });
        }
        let piece = match piece.split_at_mut_checked(DECISIVE) {
            Some((beginning, _)) => beginning,
            None => piece,
        };
        let is_first = self.lines == 0;
        self.lines += 1;
        if is_first {
            self.is_interim = mend_status_line(piece).is_some_and(is_interim);
            self.interim += usize::from(self.is_interim);
            if self.interim > MAX_INTERIM {
                return Err(BadHead::Interim);
            }
        }
        self.has_kept = is_first || self.keeps(piece);
        self.kept += usize::from(self.has_kept);
        Ok(if self.has_kept && !self.is_interim { Place::Kept } else { Place::Dropped })
    }

    /// Whether a header line is passed on.
    fn keeps(&self, piece: &[u8]) -> bool {
        if is_fold(piece) {
            // The second line has no header to continue.
            return self.has_kept && self.lines > 2;
        }
        let is_one_of_few = self.lines <= FEW_LINES;
        (is_one_of_few || (self.kept < MAX_LINES && is_used(piece)))
            && !is_no_transfer_coding(piece)
    }

    fn end_line(&mut self, was_blank: bool) {
        self.place = match (was_blank, self.place, self.is_interim) {
            (true, Place::Kept, _) => Place::Outside,
            (true, _, true) => {
                (self.lines, self.kept, self.is_interim) = (0, 0, false);
                Place::Start
            }
            _ => Place::Start,
        };
    }
}

impl Default for Held {
    fn default() -> Self {
        Self { bytes: [0; DECISIVE], length: 0 }
    }
}

/// Moves `length` bytes from `read` to `kept`, and returns where they end.
fn keep(bytes: &mut [u8], read: usize, kept: usize, length: usize) -> usize {
    if read != kept {
        bytes.copy_within(read..read + length, kept);
    }
    kept + length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What hyper gets of these bytes if they come in pieces of this length.
    fn passed(bytes: &[u8], piece: usize) -> Result<Vec<u8>, BadHead> {
        let mut heads = Heads::default();
        heads.begin();
        let mut passed = Vec::new();
        for piece in bytes.chunks(piece) {
            let mut piece = [heads.held(), piece].concat();
            let kept = heads.pass(&mut piece)?;
            passed.extend_from_slice(&piece[..kept]);
        }
        passed.extend_from_slice(heads.held());
        Ok(passed)
    }

    #[track_caller]
    fn check(bytes: &str, expected: &str) {
        for piece in [1, 2, 3, 7, 64, 10_000] {
            let passed = passed(bytes.as_bytes(), piece).expect("no error");
            assert_eq!(String::from_utf8_lossy(&passed), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn an_ordinary_answer_is_passed_on_as_it_is() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\n{}\r\n\r\nHTTP/1.1 100 x\r\n\r\n",
            "HTTP/1.1 200\nX : y\n z\n\nHTTP/1.1 103 not a head\n\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "SSH-2.0-x\r\n",
            "ssh-2.0-x 100\r\n",
            "HTTP/1.1  no status\r\n\r\n",
            "HTTP/1.1200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nTransfer-Encoding: identity\r\n",
            "\0\r\r\n",
            "h",
        ] {
            check(answer, answer);
        }
        for long in ["", "Trailer: "].map(|name| name.to_owned() + &"x".repeat(2 * DECISIVE)) {
            let answer = format!("HTTP/1.1 200 OK\r\n{long}\r\n\r\n");
            check(&answer, &answer);
            let answer = format!("HTTP/1.1 200 {long}\r\n\r\n");
            check(&answer, &answer);
        }
    }

    #[test]
    fn only_heads_are_looked_at() {
        let mut heads = Heads::default();
        assert!(heads.is_outside(), "nothing has been asked");
        heads.begin();
        for (piece, is_outside) in [
            ("HTTP/1.1 100 x\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nX: y\r\n", false),
            ("\r\n{}", true),
            ("\r\n", true),
        ] {
            heads.pass(&mut piece.as_bytes().to_vec()).expect("no error");
            assert_eq!(heads.is_outside(), is_outside, "after {piece:?}");
        }
    }

    #[test]
    fn a_line_is_held_back_only_until_it_can_be_decided_about() {
        let held = |bytes: &str| {
            let mut heads = Heads::default();
            heads.begin();
            heads.pass(&mut bytes.as_bytes().to_vec()).expect("no error");
            heads.held().len()
        };
        let first = "HTTP/1.1 200 OK\r\n";
        for (before, line) in [("", "HTTP/1.1 200 "), (first, "Trailer: ")] {
            let line = line.to_owned() + &"x".repeat(DECISIVE);
            let (too_little, enough) = (&line[..DECISIVE - 1], &line[..DECISIVE]);
            assert_eq!(held(&format!("{before}{too_little}")), too_little.len());
            assert_eq!(held(&format!("{before}{enough}")), 0, "{enough}");
        }
        // They are passed on, whatever follows.
        assert_eq!(held("SSH"), 0);
        assert_eq!(held(&format!("{first}X")), 0);
    }

    #[test]
    fn interim_answers_are_left_out() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\nhttp/1.1 103\nLink: x\n\n";
        check(&format!("{interim}\r\nHTTP/1.1 200 OK\r\n\r\n"), "HTTP/1.1 200 OK\r\n\r\n");
        check(&format!("{interim}HTTP/1.1 103 x\r\nT"), "");
        let many = |count| "HTTP/1.1 102 x\r\n\r\n".repeat(count);
        check(&many(MAX_INTERIM), "");
        assert_eq!(passed(many(MAX_INTERIM + 1).as_bytes(), 100), Err(BadHead::Interim));
    }

    #[test]
    fn status_lines_are_mended() {
        check("http/1.0 200 ok\r\n\r\n", "HTTP/1.0 200 ok\r\n\r\n");
        check("HTTP/1.1   404  x\r\n\r\n", "HTTP/1.1 404    x\r\n\r\n");
        check("HTTP/1.1  200\r\n\r\n", "HTTP/1.1 200 \r\n\r\n");
    }

    #[test]
    fn a_transfer_without_coding_is_not_mentioned() {
        let head = |line| format!("HTTP/1.1 200 OK\r\n{line}X: y\r\n\r\n");
        check(&head("transfer-encoding :  Identity \r\n"), &head(""));
        for other in ["Transfer-Encoding: chunked\r\n", "Transfer: identity\r\n", "T\r\n"] {
            check(&head(other), &head(other));
        }
    }

    #[test]
    fn a_line_that_continues_none_is_left_out() {
        let head = |lines| format!("HTTP/1.1 200 OK\r\n{lines}X: y\r\n z\r\n\r\n");
        check(&head(" z\r\n\tz\r\n"), &head(""));
    }

    #[test]
    fn of_many_lines_those_that_are_used_are_passed_on() {
        let many = "X: y\r\n".repeat(200);
        let answer = format!("HTTP/1.1 200 OK\r\n{many}set-guid :\r\n x\r\nY:\r\n z\r\n\r\n{{}}");
        let few = "X: y\r\n".repeat(FEW_LINES - 1);
        check(&answer, &format!("HTTP/1.1 200 OK\r\n{few}set-guid :\r\n x\r\n\r\n{{}}"));
        let cookies = format!("HTTP/1.1 200 OK\r\n{}\r\n", "Set-Cookie: a=b\r\n".repeat(1000));
        let passed = passed(cookies.as_bytes(), 1000).expect("no error");
        // The empty line comes after them, and nothing after that.
        assert_eq!(passed.split(|byte| *byte == b'\n').count(), MAX_LINES + 2);
    }

    #[test]
    fn the_length_of_all_heads_has_a_bound() {
        for endless in ["X: y\r\n", "X", "HTTP/1.1 103 x\r\n", "\r\n"] {
            let bytes = format!("HTTP/1.1 103 x\r\n{}", endless.repeat(MAX_HEAD_BYTES));
            assert_eq!(passed(bytes.as_bytes(), 999), Err(BadHead::TooLong), "{endless:?}");
        }
        let (begin, end) = ("HTTP/1.1 200 OK\r\nX: ", "\r\n\r\n");
        let rest = MAX_HEAD_BYTES - begin.len() - end.len();
        for (length, is_passed) in [(rest, true), (rest + 1, false)] {
            let head = format!("{begin}{}{end}", "y".repeat(length));
            let expected =
                if is_passed { Ok(head.clone().into_bytes()) } else { Err(BadHead::TooLong) };
            assert_eq!(passed(head.as_bytes(), 999), expected);
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_are_divided(
            lines in prop::collection::vec("[ \\tXxTt:/.0-9HTPhtp\\r\\n]{0,80}\\r?\\n?", 0..12),
            piece in 1..90_usize,
        ) {
            let bytes = format!("HTTP/1.1 {}", lines.concat());
            prop_assert_eq!(passed(bytes.as_bytes(), piece), passed(bytes.as_bytes(), usize::MAX));
        }
    }
}
