//! What is known of what an agent is doing, from the gateway's own answers.

use crate::{gateway::Effect, state::AgentState};

/// What an agent was doing when the gateway last said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tenant) struct Activity {
    pub(in crate::tenant) state: AgentState,
    /// The number of the tenant's newest event at that time. Later events may say otherwise.
    pub(in crate::tenant) newest: u64,
}

/// What a call has learned about its agent's activity.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::tenant) enum Learned {
    /// Nothing: what was known before still holds.
    #[default]
    Nothing,
    /// The agent may be doing anything.
    Unclear,
    /// What the gateway has said.
    Said(Activity),
    /// The gateway accepted a change. `newest` is the number of the newest event when it was sent.
    Accepted { effect: Effect, newest: u64 },
}

impl Learned {
    /// What is known after the call, if this was known before it.
    pub(super) fn after(self, before: Option<Activity>) -> Option<Activity> {
        match self {
            Self::Nothing => before,
            Self::Unclear => None,
            Self::Said(activity) => Some(activity),
            // In a call or another passing state the change may be delayed, or have no effect.
            Self::Accepted { effect, newest } => {
                let is_at_once = before.is_some_and(|before| is_lasting(before.state, effect));
                is_at_once.then_some(Activity { state: effect.leads_to, newest })
            }
        }
    }
}

/// Whether an agent in this state stays in it until it is changed, and the gateway makes the change at once.
fn is_lasting(state: AgentState, effect: Effect) -> bool {
    use AgentState::{AfterCallWork, Busy, Idle, Resting};
    matches!(state, Busy | Idle | AfterCallWork | Resting) && !(effect.waits_out)(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::{CANCEL_BUSY, REST, SAY_BUSY, SAY_FREE};

    const fn at(state: AgentState) -> Activity {
        Activity { state, newest: 7 }
    }

    #[test]
    fn an_accepted_change_leads_to_its_state_only_where_it_is_made_at_once() {
        use AgentState::{AfterCallWork, Busy, Idle, PreRest, Resting, Talking};
        let accepted = |interface: &crate::gateway::Interface| {
            let effect = interface.effect.expect("a change");
            Learned::Accepted { effect, newest: 7 }
        };
        for (interface, before, after) in [
            (&SAY_BUSY, Some(at(Idle)), Some(at(Busy))),
            (&SAY_BUSY, Some(at(Talking)), None),
            (&SAY_BUSY, Some(at(AfterCallWork)), None),
            (&SAY_BUSY, None, None),
            (&CANCEL_BUSY, Some(at(Busy)), Some(at(Idle))),
            (&SAY_FREE, Some(at(AfterCallWork)), Some(at(Idle))),
            (&REST, Some(at(Busy)), Some(at(Resting))),
            (&REST, Some(at(PreRest)), None),
        ] {
            assert_eq!(accepted(interface).after(before), after, "{before:?}");
        }
    }

    #[test]
    fn what_is_unclear_is_forgotten_and_what_says_nothing_changes_nothing() {
        let busy = Some(at(AgentState::Busy));
        assert_eq!(Learned::Nothing.after(busy), busy);
        assert_eq!(Learned::Unclear.after(busy), None);
        let said = Activity { state: AgentState::Talking, newest: 9 };
        assert_eq!(Learned::Said(said).after(busy), Some(said));
    }
}
