//! Pieces of answers on their way to the socket.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};

use super::{Held, SendBuffer};

/// How fast the reader of an answer has to be.
#[derive(Debug)]
pub(in crate::server) enum Reader {
    /// Has to take some of this answer, or of another one, within ten seconds.
    Prompt,
    /// May take its time until the answer is over.
    Slow(Arc<SlowAnswer>),
}

/// What the pieces of an answer with a slow reader share.
#[derive(Debug, Default)]
pub(in crate::server) struct SlowAnswer {
    /// Set when the answer is over, until its last piece is written. During that time the reader
    /// has to be prompt.
    rest: Mutex<Option<Held>>,
}

/// A piece of an answer. It counts in the send buffer until it is dropped, after all of it has been
/// handed to the socket.
#[derive(Debug)]
pub(in crate::server) struct Chunk {
    bytes: Bytes,
    held: Held,
    slow: Option<Arc<SlowAnswer>>,
}

/// What an answer takes in memory beside the bytes of its messages: its stream in h2 and hyper, its
/// part of the connection, and the unused rest of its buffer. Small answers were measured to take
/// up to 4 KiB in all (`unread_answers`). Others grow their buffers to up to twice what they need.
pub(super) const OVERHEAD: usize = 8 * 1024;

// === impl Reader ===

impl Reader {
    pub(in crate::server) fn slow() -> Self {
        Self::Slow(Arc::default())
    }

    /// A piece of an answer that is counted in `buffer`.
    pub(in crate::server) fn chunk(&self, bytes: Bytes, buffer: &Arc<SendBuffer>) -> Chunk {
        let length = bytes.len() + OVERHEAD;
        match self {
            Self::Prompt => Chunk { bytes, held: buffer.hold_briefly(length), slow: None },
            Self::Slow(slow) => {
                Chunk { bytes, held: buffer.hold(length), slow: Some(slow.clone()) }
            }
        }
    }

    /// Says that the answer is over: nothing follows the pieces that exist.
    pub(in crate::server) fn over(&self, buffer: &Arc<SendBuffer>) {
        if let Self::Slow(slow) = self {
            *slow.rest() = Some(buffer.hold_briefly(0));
        }
    }
}

// === impl SlowAnswer ===

impl SlowAnswer {
    fn rest(&self) -> MutexGuard<'_, Option<Held>> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Chunk ===

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.held.progress();
        if let Some(slow) = &self.slow
            && let Some(rest) = &mut *slow.rest()
        {
            rest.progress();
        }
    }
}
