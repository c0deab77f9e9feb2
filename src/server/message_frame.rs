//! The frame of a gRPC message: a compression flag, a length, and the message itself.

use std::{cmp::Ordering, io::Read as _};

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;

use crate::{call::Unreadable, rpc::Encoding};

/// How the messages of one request are read.
#[derive(Clone, Copy, Debug)]
pub struct Framing {
    /// The longest message in bytes, as it was sent and as it is without compression.
    pub limit: usize,
    /// What the compression flag stands for.
    pub encoding: Encoding,
}

/// The bytes before each message: a compression flag, and the length in four bytes.
pub(super) const FRAME_HEAD: usize = 5;

impl Framing {
    /// How many bytes the frame at the beginning of `read` has. `None` if that is not known yet.
    ///
    /// # Errors
    ///
    /// [`Unreadable::TooLarge`] if the message is longer than allowed.
    pub(super) fn length(self, read: &[u8]) -> Result<Option<usize>, Unreadable> {
        let Some([_, length @ ..]) = read.first_chunk::<FRAME_HEAD>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > self.limit { Err(Unreadable::TooLarge) } else { Ok(Some(FRAME_HEAD + length)) }
    }

    /// Checks a body that has to be one frame. Returns the frame without compression.
    ///
    /// # Errors
    ///
    /// What is wrong with the body.
    pub fn only_message(self, body: Bytes) -> Result<Bytes, Unreadable> {
        let malformed = |why: &str| Err(Unreadable::Malformed(why.into()));
        let Some(length) = self.length(&body)? else {
            return malformed(if body.is_empty() {
                "it has no message; a method takes exactly one"
            } else {
                "it ends within the five bytes before its message"
            });
        };
        match body.len().cmp(&length) {
            Ordering::Less => malformed("it ends before its message is complete"),
            Ordering::Greater => malformed("more follows its message; a method takes exactly one"),
            Ordering::Equal => self.plain(body),
        }
    }

    /// A complete frame without compression.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] if the flag makes no sense, or if the message cannot be decompressed.
    pub(super) fn plain(self, frame: Bytes) -> Result<Bytes, Unreadable> {
        let (head, message) = frame.split_at_checked(FRAME_HEAD).unwrap_or_default();
        match (head.first(), self.encoding) {
            (Some(0), _) => Ok(frame),
            (Some(1), Encoding::Gzip) => self.decompress(message),
            (Some(1), Encoding::Identity) => Err(Unreadable::Malformed(
                "its message is marked as compressed, but grpc-encoding does not say how".into(),
            )),
            (flag, _) => {
                let flag = flag.copied().unwrap_or_default();
                Err(Unreadable::Malformed(format!("its compression flag is {flag}, not 0 or 1")))
            }
        }
    }

    /// Stops at the limit, so a small message that would become a huge one takes no more memory than
    /// another. What is short may still take long: empty blocks and members make nothing, and a
    /// message can have thousands. zlib-rs reads the worst message of 16 KiB in a few milliseconds.
    fn decompress(self, message: &[u8]) -> Result<Bytes, Unreadable> {
        let mut decoder = MultiGzDecoder::new(message);
        let mut frame = BytesMut::zeroed(FRAME_HEAD);
        let mut piece = [0; PIECE];
        loop {
            let read = decoder.read(&mut piece).map_err(|error| {
                Unreadable::Malformed(format!("its message cannot be decompressed: {error}"))
            })?;
            let Some(piece) = piece.get(..read).filter(|piece| !piece.is_empty()) else { break };
            if frame.len() + piece.len() > FRAME_HEAD + self.limit {
                return Err(Unreadable::TooLarge);
            }
            frame.extend_from_slice(piece);
        }
        let length = u32::try_from(frame.len() - FRAME_HEAD).unwrap_or(u32::MAX);
        if let Some((_, own)) =
            frame.first_chunk_mut::<FRAME_HEAD>().and_then(|head| head.split_first_mut())
        {
            own.copy_from_slice(&length.to_be_bytes());
        }
        Ok(frame.freeze())
    }
}

/// How many bytes are decompressed at once.
const PIECE: usize = 4096;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn framed(flag: u8, message: &[u8]) -> Bytes {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[flag][..], &length, message].concat().into()
    }

    fn gzip(message: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(message).unwrap();
        encoder.finish().unwrap()
    }

    fn read(encoding: Encoding, limit: usize, body: &Bytes) -> Result<Bytes, Unreadable> {
        Framing { limit, encoding }.only_message(body.clone())
    }

    #[test]
    fn a_body_is_exactly_one_message_of_a_length_that_is_allowed() {
        let whole = framed(0, b"four");
        assert_eq!(read(Encoding::Identity, 4, &whole), Ok(whole.clone()));
        assert_eq!(read(Encoding::Gzip, 4, &whole), Ok(whole.clone()), "it need not be compressed");
        assert_eq!(read(Encoding::Identity, 3, &whole), Err(Unreadable::TooLarge));
        for length in 0..whole.len() {
            let cut = read(Encoding::Identity, 4, &whole.slice(..length));
            assert!(matches!(cut, Err(Unreadable::Malformed(_))), "{length}");
        }
        for after in [&b"x"[..], &framed(0, b""), &whole] {
            let more = read(Encoding::Identity, 4, &[&whole, after].concat().into());
            assert!(matches!(more, Err(Unreadable::Malformed(_))), "{after:?}");
        }
    }

    #[test]
    fn the_flag_of_compression_is_0_or_1_and_needs_an_encoding() {
        for (flag, encoding) in [
            (1, Encoding::Identity),
            (2, Encoding::Identity),
            (2, Encoding::Gzip),
            (255, Encoding::Gzip),
        ] {
            let refused = read(encoding, 99, &framed(flag, &gzip(b"four")));
            assert!(matches!(refused, Err(Unreadable::Malformed(_))), "{flag} {encoding:?}");
        }
    }

    #[test]
    fn a_message_may_be_compressed_and_its_length_counts_without_that() {
        let read = |message: &[u8], limit| read(Encoding::Gzip, limit, &framed(1, message));
        assert_eq!(read(&gzip(b"four"), 99), Ok(framed(0, b"four")));
        assert_eq!(read(&gzip(b""), 99), Ok(framed(0, b"")));
        // Several parts are one stream (RFC 1952, section 2.2).
        assert_eq!(read(&[gzip(b"fo"), gzip(b"ur")].concat(), 99), Ok(framed(0, b"four")));
        let zeros = gzip(&[0; 1000]);
        assert!(zeros.len() < 100);
        assert_eq!(read(&zeros, 1000), Ok(framed(0, &[0; 1000])));
        assert_eq!(read(&zeros, 999), Err(Unreadable::TooLarge));
        let whole = gzip(b"four");
        let mut wrong_sum = whole.clone();
        wrong_sum[whole.len() - 5] ^= 1;
        for broken in [
            &b""[..],
            b"four",
            &whole[..whole.len() - 1],
            &wrong_sum,
            &[&whole[..], b"four"].concat(),
        ] {
            assert!(matches!(read(broken, 99), Err(Unreadable::Malformed(_))), "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_within_the_limit_or_refused(
            body in proptest::collection::vec(any::<u8>(), 0..100),
            limit in 0..50_usize,
        ) {
            for encoding in [Encoding::Identity, Encoding::Gzip] {
                if let Ok(frame) = read(encoding, limit, &body.clone().into()) {
                    prop_assert!(frame.len() <= FRAME_HEAD + limit && frame[0] == 0);
                }
            }
        }

        #[test]
        fn whatever_is_compressed_is_read_as_it_was(
            message in proptest::collection::vec(any::<u8>(), 0..20_000),
        ) {
            let read = read(Encoding::Gzip, 40_000, &framed(1, &gzip(&message)));
            prop_assert_eq!(read, Ok(framed(0, &message)));
        }
    }
}
