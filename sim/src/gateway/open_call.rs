use std::{mem, sync::Arc};

use super::Gateway;
use crate::interface::Interface;

/// A call that is not answered yet. While it lasts no other one of its kind may begin for the
/// agent, and its events are held back; both end with it, however it ends.
#[derive(Debug)]
pub(crate) struct OpenCall {
    gateway: Arc<Gateway>,
    /// `None`: it concerns all agents and stands in nobody's way.
    agent: Option<u32>,
    interface: Interface,
    open: bool,
}

// === impl OpenCall ===

impl OpenCall {
    pub(super) fn new(gateway: Arc<Gateway>, agent: Option<u32>, interface: Interface) -> Self {
        Self { gateway, agent, interface, open: true }
    }

    /// The answer is about to be written: a client that has read it may call again at once, on
    /// another connection, before this task runs again.
    pub(crate) fn close(&mut self) {
        if let Some(agent) = self.agent.filter(|_| mem::take(&mut self.open)) {
            self.gateway.lock().record(agent).close(self.interface);
        }
    }

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
