//! Answers that take long to make, since they grow with the number of tenants.

use std::sync::Arc;

use tokio::{
    sync::Mutex,
    task::{JoinError, spawn_blocking},
};

/// Makes such answers one at a time, on a thread that serves no caller.
#[derive(Debug, Default)]
pub(super) struct Reports {
    turn: Arc<Mutex<()>>,
}

impl Reports {
    /// Makes one. Once begun, it is made to its end, and others wait for that, also if nobody wants it any more.
    ///
    /// # Errors
    ///
    /// [`JoinError`] if making it fails by a panic, or the runtime ends.
    pub(super) async fn make<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let turn = self.turn.clone().lock_owned().await;
        let making = spawn_blocking(move || {
            let _turn = turn;
            make()
        });
        making.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::oneshot;

    use super::*;

    /// The runtime of this test has one thread for everything but blocking work.
    #[tokio::test]
    async fn a_report_keeps_no_worker_busy_and_is_made_alone_also_if_its_client_leaves() {
        let reports = Reports::default();
        let (begin, begun) = oneshot::channel();
        let (end, ended) = mpsc::channel::<()>();
        let first = reports.make(move || {
            begin.send(()).expect("awaited");
            ended.recv()
        });
        tokio::select! {
            biased;
            _made = first => panic!("it ends when it is told to"),
            begun = begun => begun.expect("begun"),
        }
        assert!(
            reports.turn.try_lock().is_err(),
            "its client has left, and it is still being made"
        );
        drop(end);
        assert_eq!(reports.make(|| "second").await.expect("no panic"), "second");
    }
}
