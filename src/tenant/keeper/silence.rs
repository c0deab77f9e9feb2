//! How long a gateway has been silent towards polls.

use std::time::Duration;

use tokio::time::Instant;

/// A series of polls without a usable answer.
#[derive(Clone, Copy, Debug)]
pub(in crate::tenant) struct Silence {
    since: Instant,
    polls: u32,
}

/// How often the pause between polls is doubled while the gateway is silent: up to 16 s by default,
/// far below the gateway's two minutes.
const DOUBLINGS_MAX: u32 = 5;
/// How long a gateway may give no usable answer before a session counts as lost: half of the two
/// minutes after which it signs out an agent that is not polled (cec_07_1202).
const SILENCE_MAX: Duration = Duration::from_secs(60);

impl Silence {
    /// Notes one more poll without an answer, which ended now. Returns whether sessions count as lost.
    pub(in crate::tenant) fn note(silence: &mut Option<Self>, now: Instant) -> bool {
        let Self { since, polls } = silence.get_or_insert(Self { since: now, polls: 0 });
        *polls = polls.saturating_add(1);
        now.saturating_duration_since(*since) >= SILENCE_MAX
    }

    /// The pause before the next poll. It grows, since all of the gateway's agents poll at this interval.
    pub(in crate::tenant) fn stretch(silence: Option<&Self>, pause: Duration) -> Duration {
        let doublings = silence.map_or(0, |silence| silence.polls.min(DOUBLINGS_MAX));
        pause * 2_u32.pow(doublings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_counts_from_its_first_poll_and_stretches_pauses_up_to_a_bound() {
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let mut silence = None;
        assert_eq!(Silence::stretch(silence.as_ref(), second), second);
        for (after, is_lost, stretched) in [
            (0, false, 2),
            (20, false, 4),
            (59, false, 8),
            (60, true, 16),
            (90, true, 32),
            (99, true, 32),
        ] {
            assert_eq!(Silence::note(&mut silence, begin + second * after), is_lost, "{after}");
            assert_eq!(Silence::stretch(silence.as_ref(), second), second * stretched, "{after}");
        }
    }
}
