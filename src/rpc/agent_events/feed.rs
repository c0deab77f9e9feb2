use std::{collections::VecDeque, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::translate;
use crate::{event::Watch, rpc::proto::WatchEventsResponse};

/// What a caller who watches events is told, in its order.
pub(super) struct Feed {
    watch: Watch,
    /// To be told before the watch is asked for more.
    ready: VecDeque<WatchEventsResponse>,
    /// The number that the caller was told last.
    told: u64,
    /// When the caller is told how far the watch has come, if that is further.
    report: Instant,
    /// A moment for a report that the caller still hears before its own clock ends the stream.
    last_report: Option<Instant>,
}

/// How often a caller whose agents are quiet is told how far the watch has come: more often than the
/// events of the tenant's other agents should fill the log, and seldom enough to cost nothing.
const REPORT_EVERY: Duration = Duration::from_secs(30);

impl Feed {
    /// Begins with where the watch is.
    pub(super) fn new(watch: Watch, last_report: Option<Instant>) -> Self {
        let told = watch.position();
        let ready = [translate::begin(told)].into();
        let mut feed = Self { watch, ready, told, report: Instant::now(), last_report };
        feed.report = feed.next_report();
        feed
    }

    /// Waits for the next message. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> WatchEventsResponse {
        loop {
            if let Some(message) = self.pop() {
                return message;
            }
            tokio::select! {
                batch = self.watch.more() => self.ready.extend(translate::batch(&batch)),
                () = sleep_until(self.report) => {
                    self.report = self.next_report();
                    self.report_progress();
                }
            }
        }
    }

    /// The next message that is there already.
    pub(super) fn pop(&mut self) -> Option<WatchEventsResponse> {
        let message = self.ready.pop_front()?;
        self.told = message.sequence;
        self.report = self.next_report();
        Some(message)
    }

    /// Looks at the events a last time, so that the caller can go on from where they are.
    pub(super) fn close(&mut self) {
        if let Some(batch) = self.watch.take() {
            self.ready.extend(translate::batch(&batch));
        }
        self.report_progress();
    }

    fn report_progress(&mut self) {
        let known = self.ready.back().map_or(self.told, |message| message.sequence);
        let position = self.watch.position();
        if position > known {
            self.ready.push_back(translate::progress(position));
        }
    }

    fn next_report(&self) -> Instant {
        let now = Instant::now();
        let last = self.last_report.filter(|last| *last > now);
        last.map_or(now + REPORT_EVERY, |last| last.min(now + REPORT_EVERY))
    }
}

#[cfg(test)]
mod tests;
