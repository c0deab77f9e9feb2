use std::io::Write as _;

use ccgateway_bridge::gateway::{Unreadable, undo_codings};
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use http::{HeaderMap, header::CONTENT_ENCODING};

const CODINGS: &[&str] =
    &["", "gzip", "x-gzip", "deflate", "identity", "UTF-8", "br", "gzip, deflate", "deflate,gzip"];
const LIMIT: usize = 4096;

/// A body: the first byte chooses the `Content-Encoding`.
pub fn content_coding(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let named = CODINGS[usize::from(*choice) % CODINGS.len()];
    let undone = undo(named, body);
    if let Ok(Some(plain)) = &undone {
        assert!(plain.len() <= LIMIT, "{} bytes", plain.len());
    }
    if body.is_empty() || body.starts_with(b"{") {
        assert_eq!(undone, Ok(None), "what is not compressed is left alone");
    }

    // What others have compressed comes back as it was.
    let text = [b"{", body].concat();
    let text = &text[..text.len().min(LIMIT)];
    let came_back = || Ok(Some(text.to_vec()));
    assert_eq!(undo("gzip", &gzip(text)), came_back());
    assert_eq!(undo("deflate", &zlib(text)), came_back());
    assert_eq!(undo("deflate, gzip", &gzip(&zlib(text))), came_back());
    let longer = [text, &[b' '; LIMIT]].concat();
    assert_eq!(undo("gzip", &gzip(&longer)), Err(Unreadable::TooLong { limit: LIMIT }));
}

fn undo(named: &str, body: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
    let headers = HeaderMap::from_iter([(CONTENT_ENCODING, named.parse().expect("a value"))]);
    undo_codings(&headers, body, LIMIT)
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("written");
    encoder.finish().expect("finished")
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("written");
    encoder.finish().expect("finished")
}
