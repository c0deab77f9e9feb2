//! Looks at the HTTP/2 frames of a caller before h2 reads them.

use super::{frame_budget::Sent, preface::PREFACE};

/// Follows the frames of one connection. Hides from h2 those frames that h2 would wrongly treat as
/// a connection error.
///
/// At a graceful end, the server sends two GOAWAYs. A caller that has not read the second one yet
/// may begin a stream beyond the last one that it names. h2 ignores the HEADERS, DATA and
/// RST_STREAM of such a stream. But it takes a WINDOW_UPDATE for one of an idle stream, which ends
/// the connection and every call on it (h2 0.4.20, `Inner::recv_window_update`). This changes the
/// type of that frame to an unknown one, which every recipient has to ignore (RFC 9113, section
/// 5.5). HEADERS must not be changed, since h2 has to decode them to keep its header compression in
/// step. DATA must not be changed either, since it counts against the connection's window.
#[derive(Debug, Default)]
pub struct Frames {
    /// The part of the next frame's header that has been read.
    frame_header: Vec<u8>,
    /// The rest of the current frame's payload.
    payload: Payload,
    /// The highest stream that the caller has begun. Stays the same once `is_over` is set.
    last_stream: u32,
    /// Whether the second GOAWAY is out, so that h2 ignores streams beyond `last_stream`.
    is_over: bool,
    /// Whether the HEADERS of `last_stream` are still incomplete.
    is_in_headers: bool,
    /// Requests whose HEADERS are complete, since the last `take_requests`.
    requests: u64,
    /// What the last `take_sent` has not returned yet.
    sent: Sent,
}

/// The rest of a frame's payload.
#[derive(Debug, Default)]
struct Payload {
    left: usize,
    /// The payload of a PING answer as far as it has been read. `None` for other frames.
    pong: Option<Vec<u8>>,
    /// Whether this payload completes the HEADERS of a new stream.
    ends_headers: bool,
}

const FRAME_HEADER: usize = 9;
/// A frame type that is not assigned.
const IGNORED: u8 = 0xff;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// A flag of HEADERS and CONTINUATION: the headers are complete.
const END_HEADERS: u8 = 4;
/// A flag of DATA: a part of the payload is padding.
const PADDED: u8 = 8;
const ACK: u8 = 1;
/// The payload of the PING that h2 sends between the two GOAWAYs of a graceful end. h2 sends the
/// second GOAWAY when the peer has answered it.
const SHUTDOWN: [u8; 8] = [0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];

impl Frames {
    /// For a connection whose next bytes are the preface.
    pub fn after_preface() -> Self {
        let payload = Payload { left: PREFACE.len(), ..Payload::default() };
        Self { payload, ..Self::default() }
    }

    /// Looks at the bytes that the caller has sent next. `has_goaway`: the connection has got its
    /// GOAWAY. Returns how many bytes at the end of `read` are an incomplete frame header. The
    /// caller has to hold them back, and pass them again together with the bytes after them.
    pub fn look(&mut self, read: &mut [u8], has_goaway: bool) -> usize {
        let mut at = 0;
        while let Some(rest) = read.get_mut(at..).filter(|rest| !rest.is_empty()) {
            at += if self.payload.left > 0 {
                self.payload(rest, has_goaway)
            } else if self.frame_header.is_empty() && rest.len() >= FRAME_HEADER {
                self.frame_header(rest);
                FRAME_HEADER
            } else if has_goaway && self.frame_header.is_empty() {
                return rest.len();
            } else {
                self.part_of_frame_header(rest)
            };
        }
        0
    }

    /// Looks at a complete frame header at the beginning of `rest`.
    fn frame_header(&mut self, rest: &mut [u8]) {
        let Some(frame_header) = rest.first_chunk_mut::<FRAME_HEADER>() else { return };
        let [a, b, c, kind, flags, stream @ ..] = frame_header;
        let stream = u32::from_be_bytes(*stream) & !(1 << 31);
        match *kind {
            HEADERS if !self.is_over && stream > self.last_stream => {
                (self.last_stream, self.is_in_headers) = (stream, true);
            }
            WINDOW_UPDATE if self.is_over && stream > self.last_stream => *kind = IGNORED,
            _ => {}
        }
        let left = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        self.sent.frames += 1;
        match *kind {
            HEADERS => self.sent.headers += 1,
            DATA if *flags & PADDED != 0 => self.sent.padded += 1,
            DATA => self.sent.data += left as u64,
            RST_STREAM => self.sent.resets += 1,
            _ => {}
        }
        let is_pong = *kind == PING && *flags & ACK != 0 && left == SHUTDOWN.len();
        let ends_headers = self.is_in_headers
            && matches!(*kind, HEADERS | CONTINUATION)
            && *flags & END_HEADERS != 0;
        self.payload = Payload { left, pong: is_pong.then(Vec::new), ends_headers };
        self.end_of_headers();
    }

    /// Counts a request if its HEADERS are complete.
    fn end_of_headers(&mut self) {
        if self.payload.ends_headers && self.payload.left == 0 {
            (self.payload.ends_headers, self.is_in_headers) = (false, false);
            self.requests += 1;
        }
    }

    /// How many requests have come with complete HEADERS since the last call of this.
    pub fn take_requests(&mut self) -> u64 {
        std::mem::take(&mut self.requests)
    }

    /// What has come since the last call of this.
    pub fn take_sent(&mut self) -> Sent {
        std::mem::take(&mut self.sent)
    }

    /// The highest stream that the caller has begun.
    pub fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// Whether a stream has begun whose HEADERS are not complete.
    pub fn is_in_headers(&self) -> bool {
        self.is_in_headers
    }

    /// Stores a part of a frame header. Returns its length.
    fn part_of_frame_header(&mut self, rest: &mut [u8]) -> usize {
        let wanted = (FRAME_HEADER - self.frame_header.len()).min(rest.len());
        self.frame_header.extend_from_slice(rest.get(..wanted).unwrap_or_default());
        if self.frame_header.len() == FRAME_HEADER {
            let mut frame_header = std::mem::take(&mut self.frame_header);
            self.frame_header(&mut frame_header);
        }
        wanted
    }

    /// Skips what has come of a payload. Returns its length.
    fn payload(&mut self, rest: &[u8], has_goaway: bool) -> usize {
        let there = self.payload.left.min(rest.len());
        self.payload.left -= there;
        if let Some(pong) = &mut self.payload.pong {
            pong.extend_from_slice(rest.get(..there).unwrap_or_default());
            self.is_over |= has_goaway && **pong == SHUTDOWN;
        }
        self.end_of_headers();
        there
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let [.., a, b, c] = payload.len().to_be_bytes();
        [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
    }

    /// The bytes that h2 sees if `sent` comes in pieces of these sizes.
    fn seen(sent: &[u8], pieces: impl IntoIterator<Item = usize>, has_goaway: bool) -> Vec<u8> {
        let (mut frames, mut seen, mut held) = (Frames::default(), Vec::new(), Vec::new());
        let (mut sent, mut pieces) = (sent, pieces.into_iter());
        while !sent.is_empty() {
            let (piece, rest) = sent.split_at(pieces.next().unwrap_or(usize::MAX).min(sent.len()));
            held.extend_from_slice(piece);
            sent = rest;
            let keep = held.len() - frames.look(&mut held, has_goaway);
            seen.extend(held.drain(..keep));
        }
        seen
    }

    /// A call on stream 3, the answer to GOAWAY's PING, a new stream that crosses the GOAWAY, and
    /// more of stream 3.
    fn crossing(kind: u8) -> [Vec<u8>; 7] {
        [
            frame(HEADERS, 4, 1, b"one"),
            frame(HEADERS, 4, 3, b"three"),
            frame(PING, ACK, 0, b"not that"),
            frame(PING, ACK, 0, &SHUTDOWN),
            frame(HEADERS, 4, 5, b"five"),
            frame(kind, 0, 5, &[0, 0, 0, 9]),
            frame(WINDOW_UPDATE, 0, 3, &[0, 0, 0, 9]),
        ]
    }

    #[test]
    fn only_window_updates_beyond_the_last_stream_are_hidden() {
        for kind in 0..=u8::MAX {
            let sent = crossing(kind);
            let mut expected = sent.clone();
            if kind == WINDOW_UPDATE {
                expected[5][3] = IGNORED;
            }
            assert_eq!(seen(&sent.concat(), [], true), expected.concat(), "{kind}");
        }
    }

    #[test]
    fn nothing_is_hidden_before_the_end_is_agreed_on() {
        let [one, three, other, agreed, crossing @ ..] = crossing(WINDOW_UPDATE);
        let before = [one.clone(), three, other].concat();
        let crossing = crossing.concat();
        let sent = [&before[..], &crossing].concat();
        assert_eq!(seen(&sent, [], true), sent, "without the answer to the PING");
        let sent = [before, agreed, crossing].concat();
        assert_eq!(seen(&sent, [], false), sent, "without GOAWAY");
        // Frames inside a payload are not looked at.
        let inside =
            frame(0, 0, 1, &[frame(PING, ACK, 0, &SHUTDOWN), frame(8, 0, 5, &[0; 4])].concat());
        let sent = [one, inside].concat();
        assert_eq!(seen(&sent, [], true), sent);
    }

    #[test]
    fn requests_are_counted_when_their_headers_are_complete() {
        let end_stream = 1;
        let sent = [
            frame(HEADERS, 0, 1, b"one"),
            frame(CONTINUATION, 0, 1, b"and"),
            frame(CONTINUATION, END_HEADERS, 1, b"end"),
            // Trailers.
            frame(HEADERS, END_HEADERS | end_stream, 1, b"trailers"),
            frame(HEADERS, END_HEADERS, 3, b""),
            frame(0, 0, 3, b"data"),
            frame(HEADERS, END_HEADERS, 5, b"five"),
            frame(HEADERS, 0, 7, b"seven"),
        ];
        for size in 1..20 {
            let mut frames = Frames::default();
            for piece in sent.concat().chunks_mut(size) {
                frames.look(piece, false);
            }
            assert_eq!((frames.take_requests(), frames.take_requests()), (3, 0));
            assert!(frames.is_in_headers());
        }
    }

    proptest! {
        #[test]
        fn frames_are_the_same_in_whatever_pieces_they_come(
            pieces in proptest::collection::vec(1..12_usize, 0..200),
            kind in prop_oneof![Just(WINDOW_UPDATE), any::<u8>()],
            has_goaway: bool,
        ) {
            let sent = crossing(kind).concat();
            prop_assert_eq!(seen(&sent, pieces, has_goaway), seen(&sent, [], has_goaway));
        }

        #[test]
        fn whatever_is_sent_passes_in_its_length(
            sent in proptest::collection::vec(any::<u8>(), 0..200),
            pieces in proptest::collection::vec(1..12_usize, 0..200),
        ) {
            let seen = seen(&sent, pieces, true);
            prop_assert!(sent.len() - seen.len() < FRAME_HEADER);
            let same = seen.iter().zip(&sent).all(|(seen, sent)| seen == sent || *seen == IGNORED);
            prop_assert!(same);
        }
    }
}
