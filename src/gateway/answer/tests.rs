use super::*;

const ACCEPTED: &str = "{\"retcode\":\"0\"}";

/// An answer that comes in pieces of this length, and how it ends if the connection is closed after it.
fn read(bytes: &[u8], piece: usize) -> (Answer, End) {
    let mut answer = Answer::default();
    for piece in bytes.chunks(piece) {
        answer.room().extend_from_slice(piece);
        if let Some(end) = answer.advance() {
            return (answer, end);
        }
    }
    let end = answer.closed();
    (answer, end)
}

fn with_length(length: usize, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// A body in chunks of this many bytes.
fn in_chunks(body: &str, length: usize) -> String {
    let chunks = body.as_bytes().chunks(length).map(String::from_utf8_lossy);
    let mut answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    answer.extend(chunks.map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())));
    answer + "0\r\n\r\n"
}

#[test]
fn the_longest_body_is_read_in_however_many_pieces_it_comes_and_a_longer_one_is_not() {
    for (length, is_read) in [(BODY_LIMIT, true), (BODY_LIMIT + 1, false)] {
        let message = "x".repeat(length - "{'retcode':'0','message':''}".len());
        let body = format!("{{\"retcode\":\"0\",\"message\":\"{message}\"}}");
        assert_eq!(body.len(), length);
        let to_the_end = format!("HTTP/1.1 200 OK\r\n\r\n{body}");
        for bytes in [with_length(length, &body), in_chunks(&body, 1000), to_the_end] {
            for piece in [999, 100_000] {
                let (answer, end) = read(bytes.as_bytes(), piece);
                assert_eq!(matches!(end, End::Whole), is_read, "{end:?}");
                assert_eq!(matches!(end, End::TooLong), !is_read, "{end:?}");
                let reply = answer.into_reply(&end).expect("it is an answer");
                assert_eq!(reply.is_whole, is_read);
                let too_long = Unreadable::TooLong { limit: BODY_LIMIT };
                let expected = is_read.then(|| message.clone()).ok_or(too_long);
                assert!(reply.envelope.map(|envelope| envelope.message) == expected, "{end:?}");
            }
        }
    }
}

#[test]
fn a_body_that_is_too_long_is_so_whatever_comes_behind_it() {
    let bytes = in_chunks(&"x".repeat(BODY_LIMIT + 1), 1000);
    let bytes = bytes.strip_suffix("0\r\n\r\n").expect("the last chunk").to_owned() + "no chunk";
    for piece in [999, 100_000] {
        let (_, end) = read(bytes.as_bytes(), piece);
        assert!(matches!(end, End::TooLong), "{end:?} in pieces of {piece}");
    }
}

#[test]
fn an_answer_that_may_be_longer_is_read_up_to_its_own_limit() {
    let message = "x".repeat(2 * BODY_LIMIT);
    let body = format!("{{\"retcode\":\"0\",\"message\":\"{message}\"}}");
    for (limit, is_read) in [(body.len(), true), (body.len() - 1, false)] {
        let mut answer = Answer::up_to(limit);
        answer.room().extend_from_slice(with_length(body.len(), &body).as_bytes());
        let end = answer.advance().expect("it has come");
        assert_eq!(matches!(end, End::Whole), is_read, "{end:?}");
        let reply = answer.into_reply(&end).expect("it is an answer");
        let expected = is_read.then(|| message.clone()).ok_or(Unreadable::TooLong { limit });
        assert!(reply.envelope.map(|envelope| envelope.message) == expected, "{end:?}");
    }
}

#[test]
fn an_answer_ends_too_early_for_a_reason() {
    const CLOSED: &str = "the answer was cut: the gateway closed the connection";
    const UNBEGUN: &str = "connection closed before message completed";
    const MALFORMED: &str = "the answer was cut: its chunks are malformed";
    let in_no_chunk = in_chunks("", 1).replace("0\r\n", ACCEPTED);
    for (bytes, expected) in [
        ("", UNBEGUN),
        ("HTTP/1.1 2", UNBEGUN),
        ("HTTP/1.1 200 OK\r\nX: y\r\n", UNBEGUN),
        ("HTTP/1.1 103 x\r\n\r\n", UNBEGUN),
        (with_length(100, ACCEPTED).as_str(), CLOSED),
        (in_chunks(ACCEPTED, 4).trim_end(), CLOSED),
        (in_no_chunk.as_str(), MALFORMED),
        ("SSH-2.0-OpenSSH_9.6\r\n", "invalid HTTP version parsed"),
    ] {
        for piece in [1, 1000] {
            let (answer, end) = read(bytes.as_bytes(), piece);
            assert!(matches!(&end, End::Cut(cause) if cause == expected), "{bytes:?}: {end:?}");
            assert_eq!(answer.keeps_open(&end), None, "{bytes:?}");
        }
    }
}

#[test]
fn a_cut_answer_is_one_only_if_its_body_is_complete() {
    let cut = || End::Cut("reset".into());
    let late = || End::Late(Duration::from_secs(1));
    for (end, body, is_answer) in [
        (End::Whole, ACCEPTED, true),
        (End::Whole, "<html>", true),
        (End::Whole, "", true),
        (cut(), ACCEPTED, true),
        (cut(), "{\"retcode\":\"0\"", false),
        (cut(), "", false),
        (late(), ACCEPTED, true),
        (late(), "<html>", false),
        (End::TooLong, ACCEPTED, true),
    ] {
        let (answer, _) = read(with_length(100, body).as_bytes(), 1000);
        assert_eq!(answer.into_reply(&end).is_some(), is_answer, "{end:?} {body}");
    }
    assert!(Answer::default().into_reply(&late()).is_none(), "nothing has come");
}

#[test]
fn a_connection_is_kept_only_if_nothing_has_come_after_the_answer() {
    for (bytes, next) in [
        (with_length(2, "{}"), Some(Version::HTTP_11)),
        (in_chunks("{}", 1), Some(Version::HTTP_11)),
        (with_length(2, "{}\r\n"), None),
        (in_chunks("{}", 1) + "x", None),
        ("HTTP/1.1 204 x\r\n\r\n".into(), Some(Version::HTTP_11)),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n".into(), None),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n".into(),
            Some(Version::HTTP_10),
        ),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".into(), None),
        ("HTTP/1.1 200 OK\r\n\r\n{}".into(), None),
        ("HTTP/1.1 101 x\r\n\r\n".into(), None),
    ] {
        let (answer, end) = read(bytes.as_bytes(), 1000);
        assert!(matches!(end, End::Whole), "{bytes:?}: {end:?}");
        assert_eq!(answer.keeps_open(&end), next, "{bytes:?}");
    }
}

#[test]
fn an_answer_that_waits_has_little_room_and_a_long_one_gets_more() {
    let mut answer = Answer::default();
    assert!(answer.room().capacity() <= 2 * FEW_BYTES);
    answer.room().extend_from_slice(with_length(BODY_LIMIT, "").as_bytes());
    assert!(answer.advance().is_none());
    let mut reads = 0;
    loop {
        let room = answer.room();
        let free = room.capacity() - room.len();
        assert!(free >= FEW_BYTES / 4, "{free}");
        room.resize(room.len() + free, b' ');
        reads += 1;
        if answer.advance().is_some() {
            break;
        }
    }
    assert!(reads < 12, "{reads}");
}

#[test]
fn a_piece_may_end_anywhere() {
    let whole = format!("HTTP/1.1 100 x\r\n\r\n{}", in_chunks(ACCEPTED, 7));
    for piece in 1..whole.len() {
        let (answer, end) = read(whole.as_bytes(), piece);
        assert!(matches!(end, End::Whole), "{end:?} in pieces of {piece}");
        assert!(answer.into_reply(&end).is_some_and(|reply| reply.is_accepted()), "{piece}");
    }
}
