//! Pieces of answers on their way to the socket.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};

use super::{Held, SendBuffer};

/// What is expected of the reader of an answer.
#[derive(Debug)]
pub(in crate::server) enum Reader {
    /// Takes some of it, or of another answer, within ten seconds.
    Prompt,
    /// Takes it when it likes, until the answer is over.
    Slow(Arc<SlowAnswer>),
}

/// What pieces of an answer with a slow reader have in common.
#[derive(Debug, Default)]
pub(in crate::server) struct SlowAnswer {
    /// Held when the answer is over, until its last piece has gone: from then on its reader has to be
    /// prompt.
    rest: Mutex<Option<Held>>,
}

/// A piece of an answer. It is in the send buffer until it is dropped, which is when all of it has
/// been handed to the socket.
#[derive(Debug)]
pub(in crate::server) struct Chunk {
    bytes: Bytes,
    held: Held,
    slow: Option<Arc<SlowAnswer>>,
}

/// What an answer takes beside the bytes of its messages: its stream in h2 and hyper, its part of its
/// connection, and the rest of the buffer that it was encoded into. Small answers were measured to take
/// up to 4 KiB in all (`unread_answers`); others grow their buffers to up to twice what they need.
pub(super) const OVERHEAD: usize = 8 * 1024;

// === impl Reader ===

impl Reader {
    pub(in crate::server) fn slow() -> Self {
        Self::Slow(Arc::default())
    }

    /// A piece of an answer on its way through `buffer`.
    pub(in crate::server) fn chunk(&self, bytes: Bytes, buffer: &Arc<SendBuffer>) -> Chunk {
        let length = bytes.len() + OVERHEAD;
        match self {
            Self::Prompt => Chunk { bytes, held: buffer.hold_briefly(length), slow: None },
            Self::Slow(slow) => {
                Chunk { bytes, held: buffer.hold(length), slow: Some(slow.clone()) }
            }
        }
    }

    /// Says that the answer is over: nothing follows the pieces that there are.
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
