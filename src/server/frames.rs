//! HTTP/2 frames that a caller sends, as far as the bridge looks at them before h2 does.

use super::opening::PREFACE;

/// Follows the frames of one connection, and hides from h2 those that it would take for an error
/// although they are none.
///
/// After the second GOAWAY of a graceful end, a caller that has not read it yet may begin a stream
/// beyond the last one. h2 ignores the HEADERS of such a stream, its DATA and its RST_STREAM, but
/// takes a WINDOW_UPDATE of it for one of an idle stream, which ends the connection and every call
/// on it (h2 0.4.20, `Inner::recv_window_update`). So that frame gets a type that no recipient knows,
/// and that every recipient has to ignore (RFC 9113, section 5.5). HEADERS are left alone, since h2
/// has to decode them for its header compression, and so is DATA, which counts in the connection's
/// window.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// What is known of the head of the next frame.
    head: Vec<u8>,
    /// What is left of the payload of this one.
    payload: Payload,
    /// The highest stream that the caller has begun, until `is_over`.
    last_stream: u32,
    /// Whether h2 ignores streams beyond `last_stream`.
    is_over: bool,
    /// Whether the head of `last_stream` has not come whole.
    is_in_head: bool,
    /// Streams whose heads have come whole, and have not been taken.
    heads: u64,
}

/// What is left of a frame's payload.
#[derive(Debug, Default)]
struct Payload {
    left: usize,
    /// What an answer to a PING has repeated so far.
    pong: Option<Vec<u8>>,
    /// Whether the head of a new stream ends with it.
    ends_head: bool,
}

const HEAD: usize = 9;
/// A type that is not assigned.
const IGNORED: u8 = 0xff;
const HEADERS: u8 = 1;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// A flag of HEADERS and of CONTINUATION.
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// What h2 has in its PING between the two GOAWAYs of a graceful end. It sends the second one when
/// that is answered.
const SHUTDOWN: [u8; 8] = [0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];

impl Frames {
    /// Of a connection whose first bytes are the preface.
    pub(super) fn after_preface() -> Self {
        let payload = Payload { left: PREFACE.len(), ..Payload::default() };
        Self { payload, ..Self::default() }
    }

    /// Looks at what the caller has sent next. `has_goaway` is whether the connection has been asked
    /// to end. Gives how many bytes at the end of `read` are the beginning of a frame's head: they
    /// have to be held back, and given again with what follows them.
    pub(super) fn look(&mut self, read: &mut [u8], has_goaway: bool) -> usize {
        let mut at = 0;
        while let Some(rest) = read.get_mut(at..).filter(|rest| !rest.is_empty()) {
            at += if self.payload.left > 0 {
                self.payload(rest, has_goaway)
            } else if self.head.is_empty() && rest.len() >= HEAD {
                self.head(rest);
                HEAD
            } else if has_goaway && self.head.is_empty() {
                return rest.len();
            } else {
                self.part_of_head(rest)
            };
        }
        0
    }

    /// Looks at a whole head at the beginning of `rest`.
    fn head(&mut self, rest: &mut [u8]) {
        let Some(head) = rest.first_chunk_mut::<HEAD>() else { return };
        let [a, b, c, kind, flags, stream @ ..] = head;
        let stream = u32::from_be_bytes(*stream) & !(1 << 31);
        match *kind {
            HEADERS if !self.is_over && stream > self.last_stream => {
                (self.last_stream, self.is_in_head) = (stream, true);
            }
            WINDOW_UPDATE if self.is_over && stream > self.last_stream => *kind = IGNORED,
            _ => {}
        }
        let left = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let is_pong = *kind == PING && *flags & ACK != 0 && left == SHUTDOWN.len();
        let ends_head =
            self.is_in_head && matches!(*kind, HEADERS | CONTINUATION) && *flags & END_HEADERS != 0;
        self.payload = Payload { left, pong: is_pong.then(Vec::new), ends_head };
        self.end_of_head();
    }

    /// Counts a stream whose head has come whole.
    fn end_of_head(&mut self) {
        if self.payload.ends_head && self.payload.left == 0 {
            (self.payload.ends_head, self.is_in_head) = (false, false);
            self.heads += 1;
        }
    }

    /// How many streams have begun whose heads have come whole since this was asked last.
    pub(super) fn take_heads(&mut self) -> u64 {
        std::mem::take(&mut self.heads)
    }

    /// Whether a stream has begun whose head has not come whole.
    pub(super) fn is_in_head(&self) -> bool {
        self.is_in_head
    }

    /// Takes what there is of a head that is not there whole; gives how much that is.
    fn part_of_head(&mut self, rest: &mut [u8]) -> usize {
        let wanted = (HEAD - self.head.len()).min(rest.len());
        self.head.extend_from_slice(rest.get(..wanted).unwrap_or_default());
        if self.head.len() == HEAD {
            let mut head = std::mem::take(&mut self.head);
            self.head(&mut head);
        }
        wanted
    }

    /// Passes what there is of a payload; gives how much that is.
    fn payload(&mut self, rest: &[u8], has_goaway: bool) -> usize {
        let there = self.payload.left.min(rest.len());
        self.payload.left -= there;
        if let Some(pong) = &mut self.payload.pong {
            pong.extend_from_slice(rest.get(..there).unwrap_or_default());
            self.is_over |= has_goaway && **pong == SHUTDOWN;
        }
        self.end_of_head();
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

    /// What h2 sees of frames that come in pieces of these sizes.
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

    /// A call on stream 3, GOAWAY's PING answered, then a stream that crosses, and more of stream 3.
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
        // A payload is not read as frames.
        let inside =
            frame(0, 0, 1, &[frame(PING, ACK, 0, &SHUTDOWN), frame(8, 0, 5, &[0; 4])].concat());
        let sent = [one, inside].concat();
        assert_eq!(seen(&sent, [], true), sent);
    }

    #[test]
    fn heads_are_counted_when_they_have_come_whole() {
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
            assert_eq!((frames.take_heads(), frames.take_heads()), (3, 0));
            assert!(frames.is_in_head());
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
            prop_assert!(sent.len() - seen.len() < HEAD);
            let same = seen.iter().zip(&sent).all(|(seen, sent)| seen == sent || *seen == IGNORED);
            prop_assert!(same);
        }
    }
}
