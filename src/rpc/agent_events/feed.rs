//! The messages of one event stream, in order.
use std::{collections::VecDeque, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::translate;
use crate::{call::CallError, event::Watch, rpc::proto::WatchEventsResponse};

/// The messages for a caller who watches events, in order.
pub(super) struct Feed {
    watch: Watch,
    /// Messages to send before the watch is asked for more.
    ready: VecDeque<WatchEventsResponse>,
    /// The number of the last message that was sent.
    last_sent: u64,
    /// When the next progress message is due, if the watch has come further.
    report: Instant,
    /// The time for a last progress message that the caller gets before its own clock ends the
    /// stream.
    last_report: Option<Instant>,
}

/// How often a caller with quiet agents is told how far the watch has come. It must be often enough
/// that the tenant's other agents do not fill the log meanwhile, and rare enough to cost nothing.
const REPORT_EVERY: Duration = Duration::from_secs(30);

impl Feed {
    /// A feed whose first message says where the watch begins.
    pub(super) fn new(watch: Watch, last_report: Option<Instant>) -> Self {
        let last_sent = watch.position();
        let ready = [translate::begin(last_sent)].into();
        let mut feed = Self { watch, ready, last_sent, report: Instant::now(), last_report };
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

    /// The next message, if one is ready.
    pub(super) fn pop(&mut self) -> Option<WatchEventsResponse> {
        let message = self.ready.pop_front()?;
        self.last_sent = message.sequence;
        self.report = self.next_report();
        Some(message)
    }

    /// Fetches the last events, so that the caller can continue from there later. Where the stream ends for
    /// who its caller is, nothing more is told: the events may have happened after it lost its right.
    pub(super) fn close(&mut self, why: &CallError) {
        if why.is_about_the_caller() {
            return self.ready.clear();
        }
        self.report_progress();
    }

    fn report_progress(&mut self) {
        // Other agents' events do not wake the watch, so it may not have come as far as it can.
        if let Some(batch) = self.watch.take() {
            self.ready.extend(translate::batch(&batch));
        }
        let known = self.ready.back().map_or(self.last_sent, |message| message.sequence);
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
