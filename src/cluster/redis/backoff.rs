use std::time::Duration;

use rand::RngExt as _;

/// Growing pauses between attempts, with jitter, so that replicas which lost a server together do
/// not come back together.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

const FIRST: Duration = Duration::from_millis(100);
const DOUBLINGS_MAX: u32 = 5;
/// The longest pause between two attempts.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(100 << DOUBLINGS_MAX);

impl Backoff {
    /// The pause after one more failure: 50 to 100 ms at first, 1.6 to 3.2 s in the end.
    pub(super) fn next_pause(&mut self) -> Duration {
        let longest = FIRST * 2_u32.pow(self.failures.min(DOUBLINGS_MAX));
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// An attempt has worked: begin with the shortest pause again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_when_it_works() {
        let mut backoff = Backoff::default();
        for millis in [100, 200, 400, 800, 1600, 3200, 3200, 3200] {
            let (pause, longest) = (backoff.next_pause(), Duration::from_millis(millis));
            assert!((longest / 2..=longest).contains(&pause), "{pause:?} of {longest:?}");
        }
        assert_eq!(LONGEST_PAUSE, Duration::from_millis(3200));
        backoff.reset();
        assert!(backoff.next_pause() <= FIRST);
    }
}
