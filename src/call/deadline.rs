use std::{net::SocketAddr, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Who calls, and since when; the server stamps it on every request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// When the head of the request was read.
    pub arrived: Instant,
    /// Cancelled when the connection is asked to end; calls in flight go on, streams do not.
    pub leaving: CancellationToken,
}

/// When a caller stops waiting, and what follows for the bridge.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    arrived: Instant,
    answer_by: Instant,
    start_by: Instant,
}

/// The answer is given this long before the caller's own clock runs out, or its client library
/// would report a bare `DEADLINE_EXCEEDED` without our word on whether the gateway was asked.
const ANSWER_MARGIN: Duration = Duration::from_millis(10);
/// With less time than this left nothing is started: a gateway cannot answer in time.
const START_MARGIN: Duration = Duration::from_millis(25);
/// Hundreds of results are put together and encoded in this time.
const PARTS_MARGIN: Duration = Duration::from_millis(50);
/// Longer deadlines are cut to this; no wait in the bridge comes near it.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Deadline {
    /// The deadline of a call that `arrived` then and whose caller waits for `timeout`.
    pub fn new(arrived: Instant, timeout: Duration) -> Self {
        let timeout = timeout.min(LONGEST);
        Self {
            arrived,
            // A tenth at the most, so that very short deadlines keep most of their time.
            answer_by: arrived + timeout.saturating_sub(ANSWER_MARGIN.min(timeout / 10)),
            start_by: arrived + timeout.saturating_sub(START_MARGIN),
        }
    }

    /// The same a little sooner, for parts of a call whose results have to be put together.
    #[must_use]
    pub fn sooner(self) -> Self {
        let sooner = |moment: Instant| moment.checked_sub(PARTS_MARGIN).unwrap_or(moment);
        let (answer_by, start_by) = (sooner(self.answer_by), sooner(self.start_by));
        Self { answer_by, start_by, ..self }
    }

    /// When the call came in.
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// When the caller must have its answer.
    pub fn answer_by(&self) -> Instant {
        self.answer_by
    }

    /// When it is too late to start anything.
    pub fn start_by(&self) -> Instant {
        self.start_by
    }
}
