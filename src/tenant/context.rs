use crate::{call::Deadline, telemetry::trace::Trace};

/// The deadline and the trace that go along with a call.
#[derive(Clone, Debug)]
pub struct Context {
    /// When the call has to be answered.
    pub deadline: Deadline,
    /// The trace that its spans belong to.
    pub trace: Trace,
}

impl Context {
    /// The context of a call that the bridge makes by itself. It is not traced.
    pub fn of_bridge(deadline: Deadline) -> Self {
        Self { deadline, trace: Trace::default() }
    }
}
