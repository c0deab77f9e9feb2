//! The journal of a simulated gateway: every request, and its answer.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::interface::Interface;

/// A request as it came. It contains real Guids and passwords, so it is for tests, not for logs.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Real time since the gateway's start.
    pub at: Duration,
    /// The number of the connection that it came on, counted from 1.
    pub connection: u64,
    /// The method.
    pub method: String,
    /// Path and query exactly as on the wire.
    pub target: String,
    /// The headers in their order, as they were spelt.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// The interface, if the request matches one.
    pub interface: Option<Interface>,
    /// The agent, if the request matches an interface and names one.
    pub agent: Option<u32>,
    /// The answer; `None`: there is none so far.
    pub answer: Option<Answer>,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Real time since the gateway's start.
    pub at: Duration,
    /// The HTTP status; `None`: no answer was written.
    pub status: Option<u16>,
    /// The retcode, if the simulator made the answer's envelope itself.
    pub retcode: Option<String>,
    /// The Guid of a `Set-GUID` header.
    pub set_guid: Option<String>,
    /// The fault that was applied, by its name on the control endpoint.
    pub fault: Option<&'static str>,
}

/// The latest entries, up to a limit.
#[derive(Debug)]
pub(super) struct Journal {
    limit: usize,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    /// The number of the oldest entry that is still kept.
    first: u64,
    entries: VecDeque<Entry>,
}

// === impl Entry ===

impl Entry {
    /// A header's value, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

// === impl Journal ===

impl Journal {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), pages: Mutex::default() }
    }

    /// Adds an entry and returns its number.
    pub(super) fn record(&self, entry: Entry) -> u64 {
        let mut pages = self.lock();
        if pages.entries.len() == self.limit {
            pages.entries.pop_front();
            pages.first += 1;
        }
        pages.entries.push_back(entry);
        pages.first + pages.entries.len() as u64 - 1
    }

    /// Adds the answer to an entry, unless the entry has been dropped in the meantime.
    pub(super) fn answered(&self, number: u64, answer: Answer) {
        let mut pages = self.lock();
        let index = number.checked_sub(pages.first).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| pages.entries.get_mut(index)) {
            entry.answer = Some(answer);
        }
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.lock().entries.iter().cloned().collect()
    }

    pub(super) fn clear(&self) {
        let mut pages = self.lock();
        pages.first += pages.entries.len() as u64;
        pages.entries.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
