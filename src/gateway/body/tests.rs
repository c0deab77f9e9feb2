use proptest::prelude::*;

use super::{chunks::MAX_EXTRA, *};

/// What is read of a body that comes in pieces of this length, whether it is whole, and whether anything follows.
fn read(length: Length, body: &[u8], piece: usize) -> Result<(Vec<u8>, bool, bool), BadChunks> {
    let mut bytes = b"head".to_vec();
    let mut reader = BodyReader::new(length, bytes.len());
    let mut is_whole = reader.read(&mut bytes)?;
    let mut pieces = body.chunks(piece);
    while !is_whole && let Some(piece) = pieces.next() {
        bytes.extend_from_slice(piece);
        is_whole = reader.read(&mut bytes)?;
        assert!(bytes.starts_with(b"head"));
    }
    bytes.extend(pieces.flatten());
    let follows = is_whole && reader.is_followed(&bytes);
    Ok((bytes[reader.place()].to_vec(), is_whole, follows))
}

#[track_caller]
fn check(length: Length, body: &str, expected: Option<(&str, bool, bool)>) {
    let expected =
        expected.map(|(body, is_whole, follows)| (body.as_bytes().to_vec(), is_whole, follows));
    for piece in [1, 2, 3, 5, 1000] {
        let found = read(length, body.as_bytes(), piece).ok();
        assert_eq!(found, expected, "{body:?} in pieces of {piece}");
    }
}

#[test]
fn a_body_is_as_long_as_the_head_says() {
    check(Length::Bytes(0), "", Some(("", true, false)));
    check(Length::Bytes(2), "{}", Some(("{}", true, false)));
    check(Length::Bytes(2), "{}\r\n", Some(("{}", true, true)));
    check(Length::Bytes(u64::MAX), "{}", Some(("{}", false, false)));
    check(Length::ToTheEnd, "{}\r\n\r\n", Some(("{}\r\n\r\n", false, false)));
}

#[test]
fn chunks_are_put_together() {
    for (body, expected) in [
        ("0\r\n\r\n", ("", true, false)),
        ("2\r\n{}\r\n0\r\n\r\n", ("{}", true, false)),
        ("1\r\n{\r\n001 \t;x=y;\0\r\n}\r\n00\r\n\r\n", ("{}", true, false)),
        ("A;\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", ("01234567890123456789", true, false)),
        ("1\r\n{\r\n0\r\nX: y\r\n z\r\n\r\n", ("{", true, false)),
        ("2\r\n{}\r\n0\r\n\r\nHTTP", ("{}", true, true)),
        ("5\r\n{}", ("{}", false, false)),
        ("2\r\n{}", ("{}", false, false)),
        ("2\r\n{}\r", ("{}", false, false)),
        ("2\r\n{}\r\n", ("{}", false, false)),
        ("2\r\n{}\r\n0\r\n", ("{}", false, false)),
        ("2\r\n{}\r\n0\r\nX: y\r\n", ("{}", false, false)),
        ("FFFFFFFFFFFFFFFF\r\n{}", ("{}", false, false)),
    ] {
        check(Length::Chunked, body, Some(expected));
    }
}

/// Their line need not have come as a whole: whoever sends no chunks may send no line.
#[test]
fn what_is_no_chunk_is_refused() {
    for body in [
        "{",
        "\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        "1 1\r\n",
        "1\x0c\r\n",
        "1\n",
        "1;x\n",
        "1;x\ry",
        "10000000000000000\r\n",
        "1\r\n{}",
        "1\r\n{\n",
        "1\r\n{\rx",
        "0\r\nX: y\n",
        "0\r\nX: \0",
        "0\r\nX: y\rz",
    ] {
        check(Length::Chunked, body, None);
    }
}

#[test]
fn extensions_and_trailers_have_a_bound_and_many_small_chunks_take_little_memory() {
    for (lines, is_bad) in [(1, false), (100, false), (MAX_EXTRA, true)] {
        let extensions = "1;x\r\n{\r\n".repeat(lines) + "0\r\n\r\n";
        let around_sizes = "01 \r\n{\r\n".repeat(lines) + "0\r\n\r\n";
        let trailers = format!("0\r\n{}\r\n", "X: y\r\n".repeat(lines));
        for body in [extensions, around_sizes, trailers] {
            let found = read(Length::Chunked, body.as_bytes(), 100);
            assert_eq!(found.is_err(), is_bad, "{lines} lines");
        }
    }
    for endless in ["1;", "0\r\nX"] {
        let body = endless.to_owned() + &"x".repeat(MAX_EXTRA);
        assert!(read(Length::Chunked, body.as_bytes(), 100).is_err());
    }
    let mut bytes = Vec::new();
    let mut reader = BodyReader::new(Length::Chunked, 0);
    for _ in 0..10_000 {
        bytes.extend_from_slice(b"1\r\n{\r\n");
        assert_eq!(reader.read(&mut bytes), Ok(false));
    }
    assert_eq!(bytes.len(), 10_000);
}

proptest! {
    #[test]
    fn any_chunks_are_read_as_they_were_written(
        chunks in prop::collection::vec("[ -~\\r\\n]{1,40}", 0..10),
        piece in 1..50_usize,
    ) {
        let mut body = String::new();
        body.extend(chunks.iter().map(|chunk| format!("{:X}\r\n{chunk}\r\n", chunk.len())));
        let read = read(Length::Chunked, format!("{body}0\r\n\r\nx").as_bytes(), piece);
        prop_assert_eq!(read, Ok((chunks.concat().into_bytes(), true, true)));
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_are_divided(
        body in "([0-2]{1,2}[ ;x]?\\r?\\n?[xy]{0,3}\\r?\\n?){0,6}",
        piece in 1..20_usize,
    ) {
        let body = body.as_bytes();
        let [divided, whole] = [piece, usize::MAX].map(|piece| read(Length::Chunked, body, piece));
        prop_assert_eq!(divided, whole);
    }
}
