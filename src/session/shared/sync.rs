//! Hears what other replicas change, and sets right what was missed.

use std::{sync::Arc, time::Duration};

use ::redis::{cmd, pipe};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rand::RngExt as _;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::{
    Inner,
    write::{Stored, Written},
};
use crate::{
    id::AgentId,
    redis::{LinkError, Notice, Repeat},
};

/// What has to be compared with Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Nothing,
    /// Redis is to hear of the changes that are only known here.
    Tell,
    /// Everything, since messages may have been missed.
    Compare,
}

/// Everything is compared again so often, give or take a tenth, whatever was heard.
const COMPARE_EVERY: Duration = Duration::from_secs(600);
/// Until the next attempt, on average.
const RETRY: Duration = Duration::from_millis(500);
/// Records in one round trip.
const READ_AT_ONCE: usize = 256;
const WRITES_AT_ONCE: usize = 32;

/// Goes on for as long as there is a store.
pub(super) async fn run(store: Arc<Inner>) {
    let mut subscription = store.link.subscribe(store.keys.changed());
    let mut task = Task::Nothing;
    let mut due = Instant::now() + jittered(COMPARE_EVERY);
    loop {
        tokio::select! {
            notice = subscription.next() => match notice {
                Notice::Message(record) => {
                    store.hear(&record);
                    continue;
                }
                Notice::Gap => task = Task::Compare,
            },
            () = store.unshared.notified() => task = task.max(Task::Tell),
            () = sleep_until(due) => {
                if task == Task::Nothing {
                    task = Task::Compare;
                }
            }
        }
        let done = match task {
            Task::Nothing => Ok(()),
            Task::Tell => store.tell_again().await,
            Task::Compare => store.compare().await,
        };
        due = Instant::now();
        match done {
            Ok(()) => {
                task = Task::Nothing;
                due += jittered(COMPARE_EVERY);
            }
            Err(error) => {
                debug!(tenant.id = %store.tenant, %error, "sessions cannot be compared with Redis yet");
                due += jittered(RETRY);
            }
        }
    }
}

impl Inner {
    fn hear(&self, record: &[u8]) {
        if let Some((agent, entry)) = self.read(None, record) {
            self.local.offer(agent, entry);
        }
    }

    /// Tells Redis what it could not be told, and sees whether it is back.
    async fn tell_again(&self) -> Result<(), LinkError> {
        self.link.command::<()>(&cmd("PING"), Repeat::Once).await?;
        self.tell(self.local.unshared()).await.map(drop)
    }

    /// Sets everything right: of each session the newer version goes where the older one is.
    async fn compare(&self) -> Result<(), LinkError> {
        self.local.tidy();
        let mut told = 0;
        for some in self.local.agents().chunks(READ_AT_ONCE) {
            let mut read = pipe();
            for agent in some {
                read.cmd("HGET").arg(self.keys.session(*agent)).arg("record");
            }
            let records: Vec<Option<Vec<u8>>> = self.link.pipeline(&read, Repeat::Once).await?;
            let mut older = Vec::new();
            for (agent, record) in some.iter().zip(records) {
                let stored = record.and_then(|record| self.read(Some(*agent), &record));
                let known = self.local.entry(*agent);
                match (stored, known) {
                    (Some((_, stored)), Some(known)) if stored.version >= known.version => {
                        self.local.offer(*agent, stored);
                    }
                    _ => older.push(*agent),
                }
            }
            told += self.tell(older).await?;
        }
        if told > 0 {
            info!(tenant.id = %self.tenant, sessions = told, "Redis has been told what it did not know");
        }
        Ok(())
    }

    /// Tells Redis what is known of these agents, unless it knows something newer; gives of how
    /// many it did not.
    async fn tell(&self, agents: Vec<AgentId>) -> Result<usize, LinkError> {
        let told = stream::iter(agents).map(|agent| self.tell_of(agent));
        let told = told.buffer_unordered(WRITES_AT_ONCE);
        told.try_fold(0, async |sum, news| Ok(sum + usize::from(news))).await
    }

    async fn tell_of(&self, agent: AgentId) -> Result<bool, LinkError> {
        let Some(entry) = self.local.entry(agent) else { return Ok(false) };
        // A session whose time has passed is no news. Its end is: a Redis that has lost it may hear
        // of the session again, from a replica that never heard of the end.
        if entry.is_old_end() || (entry.session.is_some() && entry.live().is_none()) {
            self.local.shared(agent, entry.version);
            return Ok(false);
        }
        let written = self.write(agent, &entry, Stored::Below(entry.version)).await?;
        if let Written::Overtaken { record, .. } = &written {
            self.take_in(agent, record.as_deref());
        }
        self.local.shared(agent, entry.version);
        Ok(matches!(written, Written::Done))
    }
}

/// Replicas that began together must not ask together.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::rng().random_range(0.9..=1.1))
}
