use ccgateway_bridge::server::fuzzing::{Beginning, Frames, PREFACE, Sent, beginning};

/// The first bytes of a connection: it is HTTP/2 exactly if they are the preface and a settings frame of the connection
/// that a server has to accept, in whatever pieces they come.
pub fn http2_preface(data: &[u8]) {
    let found = beginning(data);
    assert_eq!(found, plain_beginning(data), "b\"{}\"", data.escape_ascii());
    // What has been decided stays so, and nothing is decided too late.
    let decided = (0..=data.len()).find(|at| beginning(&data[..*at]) != Beginning::Unfinished);
    match decided {
        Some(at) => assert!(at <= PREFACE.len() + 9 + 16_384 && beginning(&data[..at]) == found),
        None => assert_eq!(found, Beginning::Unfinished),
    }
}

fn plain_beginning(data: &[u8]) -> Beginning {
    let said = &data[..data.len().min(PREFACE.len())];
    if !PREFACE.starts_with(said) {
        return Beginning::Other { http_1: said[0].is_ascii_uppercase() };
    }
    let Some((frame, payload)) =
        data.get(PREFACE.len()..).and_then(|rest| rest.split_at_checked(9))
    else {
        return Beginning::Unfinished;
    };
    let length = frame[..3].iter().fold(0, |sum, byte| 256 * sum + usize::from(*byte));
    let is_of_connection = [0, 0x80].contains(&frame[5]) && frame[6..] == [0; 3];
    if length > 16_384 || frame[3] != 4 || frame[4] & 1 != 0 || !is_of_connection {
        return Beginning::Other { http_1: false };
    }
    if payload.len() < length { Beginning::Unfinished } else { Beginning::Whole }
}

const SHUTDOWN: [u8; 8] = [0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];

/// The frames of a connection, behind its preface. The first byte says in pieces of which length they come, the next two
/// after how many bytes the connection gets its GOAWAY.
///
/// A second reading, made for this, decides what h2 gets: each byte as it came, and the type of a frame only another one
/// where that is a window for a stream beyond the last one. It also counts what has come.
pub fn http2_frames(data: &[u8]) {
    let Some(([length, high, low], sent)) = data.split_first_chunk() else { return };
    let goaway = usize::from(u16::from_be_bytes([*high, *low])).min(sent.len());
    let expected = Plain::read(sent, goaway);
    for length in [usize::from(*length).max(1), usize::MAX] {
        let (seen, held, counted) = followed(sent, goaway, length);
        assert_eq!([&*seen, &held].concat(), expected.seen, "pieces of {length}");
        assert_eq!(counted, expected.counted, "pieces of {length}");
        assert!(held.len() < 9, "more is held back than the head of a frame");
    }
}

/// Requests, frames, the last stream, and whether headers are incomplete.
type Counted = (u64, Sent, u32, bool);

/// What h2 gets, what is held back at the end, and what has been counted.
fn followed(sent: &[u8], goaway: usize, length: usize) -> (Vec<u8>, Vec<u8>, Counted) {
    let mut frames = Frames::after_preface();
    assert_eq!(frames.look(&mut PREFACE.to_vec(), false), 0);
    let (mut seen, mut held, mut counted) = (Vec::new(), Vec::new(), Counted::default());
    let (before, after) = sent.split_at(goaway);
    let pieces = before.chunks(length).map(|piece| (piece, false));
    for (piece, has_goaway) in pieces.chain(after.chunks(length).map(|piece| (piece, true))) {
        held.extend_from_slice(piece);
        let keep = held.len() - frames.look(&mut held, has_goaway);
        assert!(has_goaway || keep == held.len(), "bytes are held back before GOAWAY");
        seen.extend(held.drain(..keep));
        let sent = frames.take_sent();
        counted.0 += frames.take_requests();
        counted.1.frames += sent.frames;
        counted.1.headers += sent.headers;
        counted.1.padded += sent.padded;
        counted.1.data += sent.data;
        counted.1.resets += sent.resets;
    }
    (counted.2, counted.3) = (frames.last_stream(), frames.is_in_headers());
    (seen, held, counted)
}

#[derive(Default)]
struct Plain {
    seen: Vec<u8>,
    counted: Counted,
    is_over: bool,
}

impl Plain {
    fn read(sent: &[u8], goaway: usize) -> Self {
        let mut plain = Self::default();
        let mut at = 0;
        while let Some((head, rest)) = sent[at..].split_first_chunk::<9>() {
            let length = head[..3].iter().fold(0, |sum, byte| 256 * sum + usize::from(*byte));
            let payload = &rest[..length.min(rest.len())];
            plain.frame(*head, payload, length);
            at += 9 + payload.len();
            let is_answer = head[3] == 6 && head[4] & 1 == 1 && payload == SHUTDOWN && length == 8;
            plain.is_over |= is_answer && at > goaway;
        }
        plain.seen.extend_from_slice(&sent[at..]);
        plain
    }

    fn frame(&mut self, mut head: [u8; 9], payload: &[u8], length: usize) {
        let [.., kind, flags, a, b, c, d] = head;
        let stream = u32::from_be_bytes([a & 0x7f, b, c, d]);
        let (requests, sent, last_stream, is_in_headers) = &mut self.counted;
        let (is_beyond, is_padded) = (stream > *last_stream, flags & 8 != 0);
        match kind {
            1 if is_beyond && !self.is_over => (*last_stream, *is_in_headers) = (stream, true),
            8 if is_beyond && self.is_over => head[3] = 0xff,
            _ => {}
        }
        sent.frames += 1;
        sent.resets += u64::from(kind == 3);
        sent.headers += u64::from(kind == 1);
        sent.padded += u64::from(kind == 0 && is_padded);
        sent.data += if kind == 0 && !is_padded { length as u64 } else { 0 };
        let ends_headers = matches!(kind, 1 | 9) && flags & 4 != 0 && payload.len() == length;
        if ends_headers && *is_in_headers {
            (*requests, *is_in_headers) = (*requests + 1, false);
        }
        self.seen.extend_from_slice(&head);
        self.seen.extend_from_slice(payload);
    }
}
