use crate::{call::Deadline, telemetry::trace::Trace};

/// What goes with a call on its way.
#[derive(Clone, Debug)]
pub struct Context {
    /// How long it may take.
    pub deadline: Deadline,
    /// Where its spans belong.
    pub trace: Trace,
}

impl Context {
    /// The context of what the bridge does by itself, which no trace tells of.
    pub fn of_bridge(deadline: Deadline) -> Self {
        Self { deadline, trace: Trace::default() }
    }
}
