//! How the configuration is read again at somebody's request.

use tokio::sync::{mpsc, oneshot};

use super::Reloaded;

/// Has the configuration read again by whoever reads it for this bridge.
#[derive(Clone, Debug)]
pub struct ReloadControl(mpsc::Sender<ReloadRequest>);

/// A request to read the configuration again.
#[derive(Debug)]
pub struct ReloadRequest {
    /// Whether only to find out what would change.
    pub dry_run: bool,
    answer: oneshot::Sender<Result<Reloaded, String>>,
}

/// How many requests may wait. Each reads files, so there are few.
const WAITING_MAX: usize = 4;

impl ReloadControl {
    /// A control, and the requests that it makes.
    pub fn new() -> (Self, mpsc::Receiver<ReloadRequest>) {
        let (sender, requests) = mpsc::channel(WAITING_MAX);
        (Self(sender), requests)
    }

    /// Has the configuration read, and returns what has changed by that, or would with `dry_run`.
    ///
    /// # Errors
    ///
    /// A text: what is wrong with the configuration, or that nobody reads it.
    pub async fn reload(&self, dry_run: bool) -> Result<Reloaded, String> {
        let (answer, done) = oneshot::channel();
        let nobody = "the bridge is starting or stopping, and does not read its configuration";
        let sent = self.0.try_send(ReloadRequest { dry_run, answer });
        sent.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => "others are asking for the same; try again",
            mpsc::error::TrySendError::Closed(_) => nobody,
        })?;
        done.await.map_err(|_| nobody)?
    }
}

impl ReloadRequest {
    /// Answers it.
    pub fn answer(self, result: Result<Reloaded, String>) {
        // Who asked may have left.
        let _unheard = self.answer.send(result);
    }
}
