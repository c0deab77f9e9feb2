use super::CallerId;
use crate::{call::Deadline, telemetry::trace::Trace};

/// What goes along with a call: its deadline, its trace, and whose it is.
#[derive(Clone, Debug)]
pub struct Context {
    /// When the call has to be answered.
    pub deadline: Deadline,
    /// The trace that its spans belong to.
    pub trace: Trace,
    /// For whose share of the requests it counts.
    pub caller: CallerId,
}

impl Context {
    /// The context of a call that the bridge makes by itself. It is not traced.
    pub fn of_bridge(deadline: Deadline) -> Self {
        Self { deadline, trace: Trace::default(), caller: CallerId::BRIDGE }
    }
}
