//! A gateway that takes longer the more it has to do.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::time::sleep;

/// Counts the requests that are being worked on.
#[derive(Debug, Default)]
pub(super) struct Load(AtomicU32);

/// A request that is being worked on, until this is dropped.
struct Working<'a>(&'a Load);

impl Load {
    /// Takes `time` while at most `bears` requests are worked on at once. Beyond that it takes longer in the ratio of
    /// the two, to the power of `strain`.
    pub(super) async fn work(&self, time: Duration, bears: u32, strain: u32) {
        let at_once = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        let _working = Working(self);
        let ratio = f64::from(at_once) / f64::from(bears.max(1));
        let longer = ratio.max(1.0).powf(f64::from(strain)).min(1000.0);
        sleep(time.mul_f64(longer)).await;
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
