//! How the configuration is read again at somebody's request.

use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

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

/// Why the configuration was not read, or is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// It has a mistake.
    #[error("{0}")]
    Refused(String),
    /// Others are asking for the same.
    #[error("others are asking for the same; try again")]
    Busy,
    /// The bridge does not read it.
    #[error("the bridge is starting or stopping, and does not read its configuration")]
    NobodyReads,
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
    /// [`ReloadError`].
    pub async fn reload(&self, dry_run: bool) -> Result<Reloaded, ReloadError> {
        let (answer, done) = oneshot::channel();
        let sent = self.0.try_send(ReloadRequest { dry_run, answer });
        sent.map_err(|error| match error {
            TrySendError::Full(_) => ReloadError::Busy,
            TrySendError::Closed(_) => ReloadError::NobodyReads,
        })?;
        let done = done.await.map_err(|_| ReloadError::NobodyReads)?;
        done.map_err(ReloadError::Refused)
    }
}

impl ReloadRequest {
    /// Answers it.
    pub fn answer(self, result: Result<Reloaded, String>) {
        // Who asked may have left.
        let _unheard = self.answer.send(result);
    }
}
