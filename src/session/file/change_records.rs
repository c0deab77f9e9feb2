//! What became of changes with ids, in the file, for the next process.
//!
//! The file has a row for each agent, with the latest changes of that agent. While the process runs, its memory
//! is what counts.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::FilePart;
use crate::{
    id::AgentId,
    session::{ChangeRecords, KnownRecord, Owner, SealedKind, SealedValues, StoreError},
    time::{millis, millis_now},
};

/// The records of a tenant's changes.
pub(super) struct FileChangeRecords {
    part: FilePart,
    values: SealedValues,
    /// Read at the first use.
    rows: OnceCell<Mutex<Rows>>,
}

#[derive(Default)]
struct Rows {
    of: HashMap<AgentId, VecDeque<Row>>,
    agents: HashMap<String, AgentId>,
    /// When those that are over are looked for in the rows of all agents, in milliseconds since 1970.
    tidy_at: u64,
}

/// One change.
#[derive(Clone, Serialize, Deserialize)]
struct Row {
    name: String,
    /// When it is forgotten, in milliseconds since 1970.
    until: u64,
    record: String,
    /// Whether this process has written it.
    #[serde(skip)]
    is_own: bool,
}

/// The most changes of an agent that are kept.
const MOST: usize = 64;

/// How often the rows that are over are looked for, in milliseconds.
const TIDY_EVERY: u64 = 60_000;

impl FileChangeRecords {
    pub(super) fn new(part: FilePart, values: SealedValues) -> Self {
        Self { part, values, rows: OnceCell::new() }
    }

    /// `None` as long as the file has not been read.
    async fn rows(&self) -> Option<MutexGuard<'_, Rows>> {
        if self.part.is_unread() {
            return None;
        }
        let rows = self.rows.get_or_init(|| async {
            let mut rows = Rows::default();
            for agent in self.part.slot.sealed.agents_with(SealedKind::Changes) {
                let owner = Owner { agent, session: None };
                // What is in this process does not fail.
                let plain = self.values.get(SealedKind::Changes, owner).await.ok().flatten();
                let read = plain.and_then(|plain| serde_json::from_slice(&plain).ok());
                rows.take_in(agent, read.unwrap_or_default());
            }
            Mutex::new(rows)
        });
        Some(rows.await.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes an agent's rows, and writes them. Waits until they are on the disk, or the disk is too slow.
    async fn change<T>(
        &self,
        agent: AgentId,
        change: impl FnOnce(&mut Rows) -> (T, bool),
    ) -> Option<T> {
        let (changed, stored) = {
            let mut rows = self.rows().await?;
            let (changed, is_new) = change(&mut rows);
            // While the rows are locked, so that of two changes of an agent the later one stays stored.
            (changed, is_new.then(|| self.put(agent, rows.encode(agent))))
        };
        if let Some(stored) = stored {
            stored.await;
        }
        Some(changed)
    }
}

impl FileChangeRecords {
    fn put(
        &self,
        agent: AgentId,
        (row, time): (Zeroizing<Vec<u8>>, Duration),
    ) -> BoxFuture<'_, ()> {
        self.values.put(SealedKind::Changes, Owner { agent, session: None }, &row, time)
    }
}

impl Rows {
    fn take_in(&mut self, agent: AgentId, rows: VecDeque<Row>) {
        self.agents.extend(rows.iter().map(|row| (row.name.clone(), agent)));
        self.of.insert(agent, rows);
    }

    fn get(&self, name: &str) -> Option<&Row> {
        let rows = self.of.get(self.agents.get(name)?)?;
        rows.iter().find(|row| row.name == name && row.until > millis_now())
    }

    fn put(&mut self, agent: AgentId, row: Row) {
        self.remove(agent, &row.name);
        self.agents.insert(row.name.clone(), agent);
        let rows = self.of.entry(agent).or_default();
        rows.push_back(row);
        if rows.len() > MOST
            && let Some(over) = rows.pop_front()
        {
            self.agents.remove(&over.name);
        }
        self.tidy(millis_now());
    }

    /// Forgets what is over, of all agents: some of them may make no change any more.
    fn tidy(&mut self, now: u64) {
        if now < self.tidy_at {
            return;
        }
        self.tidy_at = now.saturating_add(TIDY_EVERY);
        self.of.retain(|_, rows| {
            rows.retain(|row| row.until > now);
            !rows.is_empty()
        });
        let of = &self.of;
        self.agents.retain(|name, agent| {
            of.get(agent).is_some_and(|rows| rows.iter().any(|row| row.name == *name))
        });
    }

    fn remove(&mut self, agent: AgentId, name: &str) {
        self.agents.remove(name);
        if let Some(rows) = self.of.get_mut(&agent) {
            rows.retain(|row| row.name != name);
        }
    }

    /// An agent's rows, and how long they are of use.
    fn encode(&self, agent: AgentId) -> (Zeroizing<Vec<u8>>, Duration) {
        let rows = self.of.get(&agent);
        let until = rows.into_iter().flatten().map(|row| row.until).max().unwrap_or_default();
        // Serializing these fields cannot fail.
        let encoded = serde_json::to_vec(&rows).unwrap_or_default();
        (Zeroizing::new(encoded), Duration::from_millis(until.saturating_sub(millis_now())))
    }
}

impl Row {
    fn new(name: &str, record: &[u8], time: Duration) -> Self {
        let until = millis_now().saturating_add(millis(time));
        let record = String::from_utf8_lossy(record).into_owned();
        Self { name: name.to_owned(), until, record, is_own: true }
    }

    fn known(&self) -> KnownRecord {
        let record = self.record.clone().into_bytes();
        KnownRecord { plain: Zeroizing::new(record.clone()), stored: record, is_left: !self.is_own }
    }
}

impl ChangeRecords for FileChangeRecords {
    fn stored_form(&self, _name: &str, record: &[u8]) -> Result<Vec<u8>, StoreError> {
        Ok(record.to_vec())
    }

    fn begin<'a>(
        &'a self,
        (agent, name): (AgentId, &'a str),
        stored: &'a [u8],
        instead_of: &'a [u8],
        time: Duration,
    ) -> BoxFuture<'a, Result<Option<KnownRecord>, StoreError>> {
        let begin = move |rows: &mut Rows| {
            let known = rows.get(name).filter(|row| row.record.as_bytes() != instead_of);
            let known = known.map(Row::known);
            if known.is_none() {
                rows.put(agent, Row::new(name, stored, time));
            }
            let is_new = known.is_none();
            (known, is_new)
        };
        Box::pin(async move { Ok(self.change(agent, begin).await.flatten()) })
    }

    fn find<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<KnownRecord>, StoreError>> {
        Box::pin(async move {
            let rows = self.rows().await;
            Ok(rows.and_then(|rows| rows.get(name).map(Row::known)))
        })
    }

    fn remove<'a>(
        &'a self,
        agent: AgentId,
        name: &'a str,
        stored: &'a [u8],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let remove = move |rows: &mut Rows| {
            let is_it = rows.get(name).is_some_and(|row| row.record.as_bytes() == stored);
            if is_it {
                rows.remove(agent, name);
            }
            ((), is_it)
        };
        Box::pin(async move {
            // Nothing is stored as long as the file has not been read.
            let _removed = self.change(agent, remove).await;
            Ok(())
        })
    }
}

impl fmt::Debug for FileChangeRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileChangeRecords").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DEFAULT_AGENT_IDS;

    #[test]
    fn what_is_over_is_forgotten_of_agents_who_make_no_change_any_more() {
        let agent = |id: &str| AgentId::parse(id, &DEFAULT_AGENT_IDS).expect("an id");
        let row = |name: &str, seconds| Row::new(name, b"{}", Duration::from_secs(seconds));
        let mut rows = Rows::default();
        rows.put(agent("1001"), row("old", 600));
        rows.put(agent("1002"), row("new", 3_600));
        rows.tidy(millis_now() + 1_200_000);
        assert!(rows.get("old").is_none() && rows.get("new").is_some());
        assert_eq!((rows.of.len(), rows.agents.len()), (1, 1));
    }
}
