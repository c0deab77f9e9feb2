//! Records of changes, as stores have them, for the fuzz targets alone.

use super::{Asked, Made, record::Record};
use crate::{call::CallError, gateway::Interface, id::AgentId};

/// What a record says.
#[derive(Debug)]
pub struct RecordedChange {
    /// The agent.
    pub agent: AgentId,
    /// What the gateway was asked for.
    pub interface: &'static Interface,
    /// With which arguments.
    pub arguments: String,
    /// What it came to; `None` while it is under way.
    pub ended: Option<Result<Made, CallError>>,
}

/// Reads a record. `None` if it is none, or of no interface that is known.
pub fn read_change(plain: &[u8]) -> Option<RecordedChange> {
    let record = Record::decode(plain)?;
    let Asked { agent, interface, arguments } = record.asked()?;
    Some(RecordedChange { agent, interface, arguments, ended: record.end() })
}

/// Writes the record of a change that has ended. `None` if it cannot be recorded, or is still under way.
pub fn record_change(change: &RecordedChange) -> Option<Vec<u8>> {
    let RecordedChange { agent, interface, arguments, ended } = change;
    let asked = Asked { agent: *agent, interface, arguments: arguments.clone() };
    Record::ended(&asked, ended.as_ref()?).map(|record| record.encode())
}
