use std::io::{Read as _, Write as _};

use bytes::Bytes;
use ccgateway_bridge::{
    call::Unreadable,
    rpc::Encoding::{Gzip, Identity},
    server::fuzzing::Framing,
};
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};

const LIMIT: usize = 2048;

/// A request's body, which has to be one message of at most [`LIMIT`] bytes. The first byte says whether it may be
/// compressed: what is read is what a plain reading finds.
pub fn grpc_message(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let is_gzip = choice & 1 == 1;
    let framing = Framing { limit: LIMIT, encoding: if is_gzip { Gzip } else { Identity } };
    let read = framing.only_message(Bytes::copy_from_slice(body));
    match plain(body, is_gzip) {
        Plain::Message(message) => assert_eq!(read.as_deref(), Ok(&*framed(0, &message))),
        Plain::TooLarge => assert_eq!(read, Err(Unreadable::TooLarge)),
        Plain::Malformed => assert!(matches!(read, Err(Unreadable::Malformed(_))), "{read:?}"),
        // Where damage begins depends on how much is decompressed at once.
        Plain::Damaged => assert!(read.is_err(), "{read:?}"),
    }

    // What others have compressed comes back as it was.
    let message = &body[..body.len().min(LIMIT)];
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message).expect("written");
    let compressed = encoder.finish().expect("finished");
    if compressed.len() <= LIMIT {
        let again =
            Framing { encoding: Gzip, ..framing }.only_message(framed(1, &compressed).into());
        assert_eq!(again.as_deref(), Ok(&*framed(0, message)));
    }
}

enum Plain {
    Message(Vec<u8>),
    TooLarge,
    Malformed,
    Damaged,
}

fn plain(body: &[u8], is_gzip: bool) -> Plain {
    let Some(([flag, length @ ..], message)) = body.split_first_chunk::<5>() else {
        return Plain::Malformed;
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length > LIMIT {
        return Plain::TooLarge;
    }
    match flag {
        _ if message.len() != length => Plain::Malformed,
        0 => Plain::Message(message.to_vec()),
        1 if is_gzip => decompressed(message),
        _ => Plain::Malformed,
    }
}

fn decompressed(message: &[u8]) -> Plain {
    let mut plain = Vec::new();
    match MultiGzDecoder::new(message).read_to_end(&mut plain) {
        Ok(length) if length <= LIMIT => Plain::Message(plain),
        Ok(_) => Plain::TooLarge,
        Err(_) => Plain::Damaged,
    }
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    [&[flag][..], &length, message].concat()
}
