use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Lets something happen so many times a second, evenly.
#[derive(Debug)]
pub(super) struct Pacer {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Pacer {
    pub(super) fn per_second(times: u32) -> Self {
        let interval = Duration::from_secs(1) / times.max(1);
        Self { interval, next: Mutex::new(Instant::now()) }
    }

    /// Waits for the next free moment. Who gives up waiting leaves its moment unused.
    pub(super) async fn moment(&self) {
        sleep_until(self.book()).await;
    }

    fn book(&self) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let moment = Instant::now().max(*next);
        *next = moment + self.interval;
        moment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn moments_come_evenly() {
        let pacer = Pacer::per_second(10);
        let started = Instant::now();
        for _ in 0..11 {
            pacer.moment().await;
        }
        assert_eq!(started.elapsed().as_millis(), 1000);
    }
}
