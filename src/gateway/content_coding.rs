//! Bodies that are compressed although the bridge asks for no coding, and bodies that only seem so.

use std::io::{self, Read};

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};
use http::{HeaderMap, header::CONTENT_ENCODING};

use super::envelope::Unreadable;

/// The first bytes of anything compressed with gzip.
const GZIP: &[u8] = b"\x1f\x8b";
/// Codings that others use and the bridge cannot undo.
const FOREIGN: &[&str] = &["br", "compress", "dcb", "dcz", "x-compress", "zstd"];
/// How many codings a body may have one in the other.
const MAX_CODINGS: usize = 3;
/// How many members of one gzip body are read. Each takes as long to begin as a long one takes to read,
/// and servers send one.
const MEMBERS_MAX: usize = 16;

/// Undoes the codings of a body that cannot be read as it is. At most `limit` bytes come of each,
/// whatever is compressed in it. `None` if the body is not compressed: many servers name a coding that is
/// none, or one that they do not use.
///
/// # Errors
///
/// [`Unreadable::Encoded`] if the body is compressed in an unknown way, or damaged.
/// [`Unreadable::TooLong`] if more than `limit` bytes are compressed in it.
pub fn undo_codings(
    headers: &HeaderMap,
    body: &[u8],
    limit: usize,
) -> Result<Option<Vec<u8>>, Unreadable> {
    let named = || {
        let values = headers.get_all(CONTENT_ENCODING).iter();
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','))
    };
    let mut decoded = None;
    let mut deflates = named().filter(|name| is(name, "deflate")).count();
    for _ in 0..MAX_CODINGS {
        let coded = decoded.as_deref().unwrap_or(body);
        let plain = if coded.starts_with(GZIP) {
            gunzip(coded, limit)?
        } else if deflates > 0 && !is_text(coded) {
            deflates -= 1;
            inflate(coded, limit)?
        } else {
            break;
        };
        decoded = Some(plain);
    }
    let is_foreign = || named().any(|name| FOREIGN.iter().any(|foreign| is(name, foreign)));
    if decoded.is_none() && !is_text(body) && is_foreign() {
        return Err(Unreadable::Encoded);
    }
    Ok(decoded)
}

fn is(name: &str, coding: &str) -> bool {
    name.trim().eq_ignore_ascii_case(coding)
}

/// Whether a body begins as JSON or a page does, so that it is not compressed, or is empty.
fn is_text(body: &[u8]) -> bool {
    let is_marked = [&b"\xef\xbb\xbf"[..], b"\xff\xfe", b"\xfe\xff"];
    if is_marked.iter().any(|mark| body.starts_with(mark)) {
        return true;
    }
    matches!(body.trim_ascii_start(), [] | [b'{' | b'[' | b'<' | b'"', ..])
}

/// Undoes gzip, which may consist of several members.
fn gunzip(mut coded: &[u8], limit: usize) -> Result<Vec<u8>, Unreadable> {
    let mut plain = room(limit);
    for _ in 0..MEMBERS_MAX {
        if !coded.starts_with(GZIP) {
            break;
        }
        let mut decoder = GzDecoder::new(coded);
        read(&mut decoder, &mut plain, limit)?;
        coded = decoder.into_inner();
    }
    if coded.starts_with(GZIP) {
        return Err(Unreadable::Encoded);
    }
    Ok(plain)
}

/// Undoes deflate, which some servers write in zlib's format, as they should, and others without it.
fn inflate(coded: &[u8], limit: usize) -> Result<Vec<u8>, Unreadable> {
    let mut plain = room(limit);
    match read(&mut ZlibDecoder::new(coded), &mut plain, limit) {
        Err(Unreadable::Encoded) => {
            plain.clear();
            read(&mut DeflateDecoder::new(coded), &mut plain, limit)?;
        }
        read => read?,
    }
    Ok(plain)
}

/// Room for the longest body and the byte that makes one too long: a vector that grows takes twice as much.
fn room(limit: usize) -> Vec<u8> {
    Vec::with_capacity(limit + 1)
}

/// Reads to the end. An end that is missing is none of this reader's business: what there is, is a
/// complete JSON object or is not.
fn read(decoder: &mut impl Read, plain: &mut Vec<u8>, limit: usize) -> Result<(), Unreadable> {
    let room = (limit + 1).saturating_sub(plain.len());
    match decoder.take(room as u64).read_to_end(plain) {
        _ if plain.len() > limit => Err(Unreadable::TooLong { limit }),
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(Unreadable::Encoded),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 64 * 1024;

    fn headers(coding: &str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, coding.parse().expect("a value"))])
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).expect("written");
        encoder.finish().expect("finished")
    }

    fn deflate(plain: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).expect("written");
        encoder.finish().expect("finished")
    }

    #[test]
    fn what_is_not_compressed_is_left_alone() {
        for coding in ["", "UTF-8", "gzip", "deflate", "br", "identity, gzip"] {
            for body in ["", "{}", "  {\"x\":1}", "<html>", "\u{feff}x"] {
                let decoded = undo_codings(&headers(coding), body.as_bytes(), LIMIT);
                assert_eq!(decoded, Ok(None), "{coding}: {body}");
            }
        }
    }

    #[test]
    fn deflate_is_undone_as_often_as_it_is_named() {
        let once = deflate(b"{\"retcode\":\"0\"}");
        let twice = deflate(&once);
        let decoded = |coding, body: &[u8]| undo_codings(&headers(coding), body, LIMIT);
        assert_eq!(decoded("deflate", &twice), Ok(Some(once)));
        let plain = Ok(Some(b"{\"retcode\":\"0\"}".to_vec()));
        assert_eq!(decoded("deflate, Deflate", &twice), plain);
    }

    #[test]
    fn a_body_that_is_no_text_is_refused_only_where_a_coding_is_named_that_cannot_be_undone() {
        for (coding, expected) in [
            ("br", Err(Unreadable::Encoded)),
            ("gzip, ZSTD", Err(Unreadable::Encoded)),
            ("gzip", Ok(None)),
            ("UTF-8", Ok(None)),
            ("", Ok(None)),
        ] {
            assert_eq!(
                undo_codings(&headers(coding), b"\x8b\x01 \xff", LIMIT),
                expected,
                "{coding}"
            );
        }
    }

    #[test]
    fn a_compressed_body_whose_end_is_missing_is_read_as_far_as_it_goes() {
        let plain = b"{\"retcode\":\"0\"}";
        // What is left out is the checksum, with the length in gzip.
        for (coding, body, left_out) in [("gzip", gzip(plain), 8), ("deflate", deflate(plain), 4)] {
            let cut = &body[..body.len() - left_out];
            let decoded = undo_codings(&headers(coding), cut, LIMIT);
            assert_eq!(decoded, Ok(Some(plain.to_vec())), "{coding}");
        }
    }

    #[test]
    fn the_longest_body_is_read_and_a_longer_one_is_not() {
        let too_long = Err(Unreadable::TooLong { limit: LIMIT });
        for (length, expected) in [(LIMIT, Ok(Some(vec![b' '; LIMIT]))), (LIMIT + 1, too_long)] {
            let plain = vec![b' '; length];
            for (coding, body) in [("gzip", gzip(&plain)), ("deflate", deflate(&plain))] {
                let decoded = undo_codings(&headers(coding), &body, LIMIT);
                assert!(decoded == expected, "{coding} of {length}");
            }
        }
    }

    #[test]
    fn a_bomb_takes_no_more_memory_than_the_longest_body() {
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::best());
        raw.write_all(&vec![b' '; 16 << 20]).expect("written");
        let bombs = [gzip(&vec![b' '; 16 << 20]), raw.finish().expect("finished")];
        for (coding, bomb) in ["gzip", "deflate"].into_iter().zip(bombs) {
            let too_long = Err(Unreadable::TooLong { limit: LIMIT });
            assert_eq!(undo_codings(&headers(coding), &bomb, LIMIT), too_long);

            let mut plain = room(LIMIT);
            let capacity = plain.capacity();
            let mut rest = bomb.as_slice();
            let read = if coding == "gzip" {
                read(&mut GzDecoder::new(&mut rest), &mut plain, LIMIT)
            } else {
                read(&mut DeflateDecoder::new(&mut rest), &mut plain, LIMIT)
            };
            assert_eq!(read, Err(Unreadable::TooLong { limit: LIMIT }));
            assert_eq!(plain.capacity(), capacity, "it did not grow");
            assert!(rest.len() > bomb.len() / 2, "{} of {}", rest.len(), bomb.len());
        }
    }

    #[test]
    fn many_small_members_take_no_more_memory_either() {
        let members = gzip(&[b' '; 8000]).repeat(MEMBERS_MAX);
        let too_long = Err(Unreadable::TooLong { limit: LIMIT });
        assert_eq!(undo_codings(&headers("gzip"), &members, LIMIT), too_long);
        for (count, expected) in
            [(MEMBERS_MAX, Ok(Some(Vec::new()))), (MEMBERS_MAX + 1, Err(Unreadable::Encoded))]
        {
            let empty = gzip(b"").repeat(count);
            assert_eq!(undo_codings(&headers("gzip"), &empty, LIMIT), expected);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(body: Vec<u8>, coding in "(gzip|deflate|br)?") {
            for body in [body.clone(), [GZIP, b"\x08", &body].concat()] {
                if let Ok(Some(plain)) = undo_codings(&headers(&coding), &body, 1000) {
                    prop_assert!(plain.len() <= 1000);
                }
            }
        }
    }
}
