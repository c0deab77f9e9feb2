//! What inspectors are told of the agents whom they monitor (client).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use serde_json::json;
use tokio::sync::Notify;

use super::agent::{self, Event};

/// What one session of an inspector is told. Its monitoring ends with it (inferred).
#[derive(Debug)]
pub(super) struct Notices {
    waiting: Mutex<VecDeque<Event>>,
    /// Wake the polls that may bring a notice.
    wakes: [Arc<Notify>; 2],
}

/// The sessions of inspectors who monitor one agent.
#[derive(Debug, Default)]
pub(super) struct Inspectors(Vec<Weak<Notices>>);

// === impl Notices ===

impl Notices {
    pub(super) fn new(wakes: [Arc<Notify>; 2]) -> Arc<Self> {
        Arc::new(Self { waiting: Mutex::default(), wakes })
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn next(&self) -> Option<Event> {
        self.lock().pop_front()
    }

    fn push(&self, notice: Event, limit: usize) {
        let mut waiting = self.lock();
        waiting.push_back(notice);
        while waiting.len() > limit {
            waiting.pop_front();
        }
        drop(waiting);
        self.wakes.iter().for_each(|wake| wake.notify_waiters());
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Inspectors ===

impl Inspectors {
    pub(super) fn add(&mut self, inspector: &Arc<Notices>) {
        self.remove(inspector);
        self.0.push(Arc::downgrade(inspector));
    }

    /// Removes an inspector, and those whose sessions are over.
    pub(super) fn remove(&mut self, inspector: &Arc<Notices>) {
        self.0.retain(|one| one.upgrade().is_some_and(|one| !Arc::ptr_eq(&one, inspector)));
    }

    /// Tells what an event means for the agent's state, if it means anything.
    pub(super) fn tell(&self, agent: u32, event: &str, limit: usize) {
        let Some(subtype) = subtype(event) else {
            return;
        };
        let content = json!({
            "monitoredagent": agent.to_string(),
            "agentname": agent::name(agent),
            "subtype": subtype,
        });
        for inspector in self.0.iter().filter_map(Weak::upgrade) {
            inspector.push(Event::with("QC_AgentState_Notify", &content), limit);
        }
    }
}

/// The subtype that goes with an event of the agent. A demo of the vendor names the subtypes (client); which
/// state each of them tells is inferred from its name.
fn subtype(event: &str) -> Option<&'static str> {
    Some(match event {
        "AgentOther_InService" => "QC_AgentState_Login",
        "AgentOther_ShutdownService" => "QC_AgentState_Logout",
        "AgentState_Ready"
        | "AgentState_Force_Ready"
        | "AgentState_CancelNotReady_Success"
        | "AgentState_CancelWork_Success"
        | "AgentState_CancelRest_Success" => "QC_AgentState_Idle",
        "AgentState_SetNotReady_Success" | "AgentState_Force_SetNotReady" => "QC_AgentState_Busy",
        "AgentState_SetWork_Success" | "AgentState_Work" => "QC_AgentState_Work",
        "AgentState_SetRest_Success" => "QC_AgentState_Rest",
        "AgentState_Busy" => "QC_AgentState_Active",
        _ => return None,
    })
}
