//! Answers that take long to make, since they grow with the number of tenants.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use tokio::{
    runtime::Handle,
    sync::{Mutex, oneshot},
};
use tracing::{Dispatch, dispatcher::with_default, error};

/// Makes such answers one at a time, each on a thread of its own.
///
/// On a thread that serves callers, those would wait. The runtime's threads for blocking work may all hang, such as in reading
/// files from a disk that does not answer, and then somebody surely wants to see how the bridge is doing.
#[derive(Debug, Default)]
pub(super) struct Reports {
    turn: Arc<Mutex<()>>,
}

/// Why an answer was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unmade {
    /// The system has no thread.
    #[error("there is no thread for making it: {0}")]
    NoThread(io::Error),
    /// Making it has panicked.
    #[error("making it failed; the log has the cause")]
    Failed,
}

impl Reports {
    /// Makes the one of this page. Once begun, it is made to its end, and others wait for that, also if nobody wants it
    /// any more.
    ///
    /// # Errors
    ///
    /// [`Unmade`].
    pub(super) async fn make<T: Send + 'static>(
        &self,
        page: &str,
        make: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unmade> {
        let turn = self.turn.clone().lock_owned().await;
        let (tell, told) = oneshot::channel();
        let (runtime, log, page) = (Handle::current(), Dispatch::default(), page.to_owned());
        let run = move || {
            let (_turn, _runtime) = (turn, runtime.enter());
            let report = catch_unwind(AssertUnwindSafe(make)).map_err(|_panic| {
                // Here, since the client may have left. The panic was written to stderr, as the log is.
                with_default(&log, || {
                    error!(page = &*page, "a page could not be made; the panic above says why");
                });
                Unmade::Failed
            });
            let _left = tell.send(report);
        };
        thread::Builder::new().name("reports".to_owned()).spawn(run).map_err(Unmade::NoThread)?;
        told.await.unwrap_or(Err(Unmade::Failed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::{resolver::without_threads_for_blocking_work, telemetry::log::captured::Captured};

    /// The runtime of this test has one thread for everything but blocking work.
    #[tokio::test]
    async fn a_report_keeps_no_worker_busy_and_is_made_alone_also_if_its_client_leaves() {
        let reports = Reports::default();
        let (begin, has_begun) = oneshot::channel();
        let (end, ended) = mpsc::channel::<()>();
        let first = reports.make("/", move || {
            begin.send(()).expect("awaited");
            ended.recv()
        });
        tokio::select! {
            biased;
            _made = first => panic!("it ends when it is told to"),
            done = has_begun => done.expect("begun"),
        }
        assert!(
            reports.turn.try_lock().is_err(),
            "its client has left, and it is still being made"
        );
        drop(end);
        assert_eq!(reports.make("/", || "second").await.expect("no panic"), "second");
    }

    /// As where a disk does not answer.
    #[test]
    fn a_report_is_made_although_all_threads_for_blocking_work_hang() {
        let reports = Reports::default();
        let made = without_threads_for_blocking_work(reports.make("/", || "made"));
        assert_eq!(made.expect("no panic"), "made");
    }

    #[tokio::test]
    async fn a_report_that_panics_is_one_line_of_the_log_and_the_next_one_is_made() {
        let (log, reports) = (Captured::start(), Reports::default());
        let made: Result<(), _> = reports.make("/metrics", || panic!("canary")).await;
        let said = made.expect_err("a panic").to_string();
        assert_eq!(said, "making it failed; the log has the cause");
        let lines = log.with("/metrics");
        assert!(lines.len() == 1 && lines[0].contains("ERROR"), "{lines:?}");
        assert_eq!(reports.make("/metrics", || "next").await.expect("no panic"), "next");
    }

    #[tokio::test]
    async fn a_report_that_panics_is_a_line_of_the_log_also_if_its_client_has_left() {
        let (log, reports) = (Captured::start(), Reports::default());
        let (begin, has_begun) = oneshot::channel();
        let (end, ended) = mpsc::channel::<()>();
        let first = reports.make("/metrics", move || {
            begin.send(()).expect("awaited");
            ended.recv().expect("canary");
        });
        tokio::select! {
            biased;
            _made = first => panic!("it ends when it is told to"),
            done = has_begun => done.expect("begun"),
        }
        drop(end);
        assert_eq!(reports.make("/", || "next").await.expect("no panic"), "next");
        assert_eq!(log.with("/metrics").len(), 1);
    }
}
