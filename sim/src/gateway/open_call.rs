use std::{mem, sync::Arc};

use super::Gateway;
use crate::interface::Interface;

/// A call that has not been answered yet. While it is open, no conflicting call may begin for the agent,
/// and its events are held back. Both end when it is closed or dropped.
#[derive(Debug)]
pub(crate) struct OpenCall {
    gateway: Arc<Gateway>,
    /// The agent; `None`: the call is about all agents and conflicts with no other.
    agent: Option<u32>,
    interface: Interface,
    open: bool,
}

// === impl OpenCall ===

impl OpenCall {
    pub(super) fn new(gateway: Arc<Gateway>, agent: Option<u32>, interface: Interface) -> Self {
        Self { gateway, agent, interface, open: true }
    }

    /// Closes the call. To be called before the answer is written: a client that has read it may call
    /// again at once on another connection, before this task runs again.
    pub(crate) fn close(&mut self) {
        if let Some(agent) = self.agent.filter(|_| mem::take(&mut self.open)) {
            self.gateway.lock().record(agent).close(self.interface);
        }
    }

    /// Lets the events of the call be polled.
    pub(super) fn release(&self) {
        if let Some(agent) = self.agent.filter(|_| self.interface.changes_state()) {
            self.gateway.lock().record(agent).release(&self.gateway.options);
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.close();
        self.release();
    }
}
