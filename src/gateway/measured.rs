//! Steps of a request, for `benches/parts.rs` alone.

use http::Uri;

use super::{Command, address::Address};
use crate::id::AgentId;

/// An address that requests are written for.
#[derive(Debug)]
pub struct Targets(Address);

impl Targets {
    /// Those of the gateway at this URL. `None` if it has no host.
    pub fn at(base_url: &Uri) -> Option<Self> {
        Address::new(base_url).map(Self)
    }

    /// The path and query of a request.
    pub fn target(&self, command: &Command, agent: AgentId) -> Vec<u8> {
        let mut target = Vec::new();
        self.0.write_target(command, agent, &mut target);
        target
    }
}
