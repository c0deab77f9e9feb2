//! How many frames a caller may send that get it nowhere.

use tokio::time::Instant;

/// What a caller has sent since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames of any kind.
    pub frames: u64,
    /// Frames of HEADERS.
    pub headers: u64,
    /// Frames of DATA with padding, which no library sends.
    pub padded: u64,
    /// Bytes of DATA, without padded frames.
    pub data: u64,
    /// Frames of RST_STREAM.
    pub resets: u64,
}

/// The budget of one connection.
///
/// Most frames of HTTP/2 cost their sender nothing and h2 some work, so a flood of them would take a
/// core for each connection. Every frame therefore takes one from the budget. What calls bring in the
/// way of frames is given back ([`OF_REQUEST`], [`OF_PIECE`], [`OF_DATA`]), and time gives back some
/// more ([`PER_SECOND`]), so that an honest caller never gets near the end of it.
#[derive(Debug)]
pub(super) struct FrameBudget {
    left: u64,
    /// The budget at the beginning, and the most that there ever is.
    max: u64,
    /// The progress that has been given back for.
    progress: u64,
    /// Until when time has been given back for.
    refilled: Instant,
}

/// What HEADERS take from the budget, in frames. h2 decodes them and sets up a stream, which is as much work as ten
/// PINGs, even if it refuses the stream.
const OF_HEADERS: u64 = 8;
/// What DATA with padding takes. h2 has to read it and to give its window back, and nobody gets anything. A caller
/// that pads the only message of each call still gets back what the call takes.
const OF_PADDED: u64 = OF_REQUEST - OF_HEADERS;
/// The budget of a connection, without the HEADERS of all its streams. Some milliseconds of work for h2.
/// Callers send a few dozen frames at once that belong to no call: settings and their
/// acknowledgements, PINGs, and windows or RST_STREAMs for a hundred streams.
const BASE: u64 = 2000;
/// The same for peers that have flooded a connection lately.
const LEAST_BASE: u64 = 200;
/// Given back for each second. Callers that measure the network send a PING for each round trip at
/// the most, and only while they get answers; others keep alive with one in ten seconds.
const PER_SECOND: u64 = 500;
/// Given back for each request that a service has got: HEADERS, a frame or two of DATA, windows for
/// the answer, a PING, an RST_STREAM. The libraries in use send 2 to 6 frames for a call.
pub(super) const OF_REQUEST: u64 = OF_HEADERS + 16;
/// Given back for each message of a stream: two windows and a PING.
pub(super) const OF_PIECE: u64 = 4;
/// So many bytes, sent or received, give back one frame. Libraries send frames of up to 16 KiB, and
/// windows for each or fewer.
pub(super) const OF_DATA: u64 = 1024;

impl Sent {
    /// What it takes from the budget.
    pub(super) fn cost(self) -> u64 {
        self.frames + self.headers * (OF_HEADERS - 1) + self.padded * (OF_PADDED - 1)
    }
}

impl FrameBudget {
    /// The budget of a connection that may have so many streams at once.
    pub(super) fn new(streams: u32) -> Self {
        Self::of(BASE, streams)
    }

    /// The same for a peer that has flooded a connection lately. It may still begin and cancel all streams at once.
    pub(super) fn least(streams: u32) -> Self {
        Self::of(LEAST_BASE, streams)
    }

    fn of(base: u64, streams: u32) -> Self {
        let max = base + u64::from(streams) * OF_HEADERS;
        Self { left: max, max, progress: 0, refilled: Instant::now() }
    }

    /// Takes what was sent from the budget. `progress`: what all calls of the connection have given
    /// back so far. Returns false if the budget is used up.
    ///
    /// The clock is read only if nothing is left, so that calls do not pay for it.
    pub(super) fn spend(&mut self, sent: Sent, progress: u64) -> bool {
        let earned = progress.saturating_sub(self.progress) + sent.data / OF_DATA;
        self.progress = self.progress.max(progress);
        let (left, cost) = ((self.left + earned).min(self.max), sent.cost());
        self.left = left.saturating_sub(cost);
        if cost <= left {
            return true;
        }
        let refill = self.refill();
        let missing = cost - left;
        self.left = refill.saturating_sub(missing);
        missing <= refill
    }

    /// Whether the caller has got on, and has much left. Others may be about to flood the connection.
    pub(super) fn is_ample(&self) -> bool {
        self.progress > 0 && self.left > self.max / 4 * 3
    }

    /// What time has given back since the last refill.
    fn refill(&mut self) -> u64 {
        let frames = self.refilled.elapsed().as_millis() * u128::from(PER_SECOND) / 1000;
        let frames = u64::try_from(frames).unwrap_or(self.max).min(self.max);
        if frames > 0 {
            self.refilled = Instant::now();
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const STREAMS: u32 = 100;
    const MAX: u64 = BASE + STREAMS as u64 * OF_HEADERS;
    /// How long the whole budget takes to come back.
    const WHOLE: Duration = Duration::from_secs(MAX / PER_SECOND);

    fn frames(frames: u64) -> Sent {
        Sent { frames, ..Sent::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn frames_without_progress_end_the_budget_and_time_gives_some_back() {
        let mut budget = FrameBudget::new(STREAMS);
        assert!(budget.spend(frames(MAX), 0));
        assert!(!budget.spend(frames(1), 0));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(budget.spend(frames(PER_SECOND), 0));
        assert!(!budget.spend(frames(1), 0));
        tokio::time::advance(100 * WHOLE).await;
        assert!(budget.spend(frames(MAX), 0));
        assert!(!budget.spend(frames(1), 0), "no more than there ever is");
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_get_on_never_reach_the_end() {
        // A million calls at once, of six frames each; a stream of a million events, each with two
        // windows and a PING; a long upload in frames of 16 KiB.
        let upload = Sent { data: 16_384, ..frames(1) };
        let call = Sent { headers: 1, ..frames(6) };
        let padded = Sent { headers: 1, padded: 1, ..frames(2) };
        let all = [(call, OF_REQUEST), (padded, OF_REQUEST), (frames(3), OF_PIECE), (upload, 0)];
        for (sent, progress) in all {
            let mut budget = FrameBudget::new(STREAMS);
            for calls in 1..=1_000_000 {
                assert!(budget.spend(sent, calls * progress), "{sent:?} after {calls}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_streams_may_begin_at_once_before_a_service_has_got_any() {
        for (streams, base, mut budget) in [1, 100, 10_000].into_iter().flat_map(|streams| {
            [
                (streams, BASE, FrameBudget::new(streams)),
                (streams, LEAST_BASE, FrameBudget::least(streams)),
            ]
        }) {
            let count = u64::from(streams);
            assert!(budget.spend(Sent { headers: count, ..frames(count + base) }, 0), "{streams}");
            assert!(!budget.spend(Sent { headers: 1, ..frames(1) }, 0), "{streams}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn padding_without_progress_ends_the_budget_after_fewer_frames() {
        let padded = |count| Sent { padded: count, ..frames(count) };
        let mut budget = FrameBudget::new(STREAMS);
        assert!(budget.spend(padded(MAX / OF_PADDED), 0));
        assert!(!budget.spend(padded(1), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn keepalive_as_often_as_it_is_allowed_costs_nothing_in_the_long_run() {
        let mut budget = FrameBudget::new(STREAMS);
        for _ in 0..100_000 {
            tokio::time::advance(Duration::from_millis(10)).await;
            assert!(budget.spend(frames(4), 0));
        }
    }
}
