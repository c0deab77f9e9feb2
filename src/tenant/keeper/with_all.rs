//! A keeper where polls are for all agents of a node: it looks into what seems to be wrong with its session.

use tokio::time::Instant;

use super::{End, Keeping, REFUSALS_MAX};
use crate::{session::Session, tenant::single_poll::Finding};

impl Keeping {
    /// Leaves the session to the poll of its node, unless something seems to be wrong with it. Else asks the gateway about
    /// this agent alone.
    pub(super) async fn join_or_look(&mut self, session: &Session) -> Result<Finding, End> {
        // A suspicion says nothing of a session that was made, or whose Guid was renewed, since then. A call may have signed
        // the agent in while a poll with the former Guid was open.
        if self.suspicion.take_if(|(_, version)| *version < session.version).is_some() {
            self.silence = None;
        }
        let is_trusted = self.suspicion.is_none()
            && self.refusals == 0
            && self.silence.is_none()
            && !self.newer_guid_may_be_lost;
        if is_trusted {
            self.tenant.join(self.agent, self.number, session);
            return Err(End::Joined);
        }
        let asked = Instant::now();
        let looked = self.tenant.look_at(self.agent, session);
        let looked = self.finish.run_until_cancelled(looked).await.ok_or(End::HandedOver)?;
        if looked.is_none() {
            // The one refusal says it: where agents cannot be asked about, Guids do not change.
            (self.refusals, self.newer_guid_may_be_lost) = (REFUSALS_MAX - 1, false);
        }
        let is_good = looked == Some(Finding::Alive);
        if is_good {
            self.was_good(asked, true);
        }
        // A session that was made meanwhile proves nothing of the one before.
        let was_refused = self.refused_version.take() == Some(session.version);
        if is_good && was_refused && self.tenant.node_polls.came_to_nothing() {
            self.tenant.say_polled_for_each("the gateway refuses them with good Guids");
        }
        Ok(judge(self.suspicion.map(|(found, _)| found), looked))
    }
}

/// What is to be believed of what the poll of the node has found, by the answer about the agent alone, if it can be asked for.
fn judge(suspicion: Option<Finding>, looked: Option<Finding>) -> Finding {
    match (suspicion, looked) {
        // Now it is known who did it.
        (Some(Finding::SignedOutByOthers), Some(Finding::GuidRefused | Finding::SignedOut)) => {
            Finding::SignedOutByOthers
        }
        (_, Some(found)) => found,
        // It may be the session before that was ended, by a sign-in of the bridge's own; and a switch-over ends. If the session
        // is lost, its Guid is refused when it carries the poll.
        (None | Some(Finding::SignedOutByOthers | Finding::Switchover), None) => Finding::Alive,
        (Some(suspicion), None) => suspicion,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspicion_counts_if_the_agent_alone_is_refused_too_or_cannot_be_asked_about() {
        use Finding::{
            Alive, AnswerLost, GuidRefused, SignedOut, SignedOutByOthers, Silent, Switchover,
        };
        for (suspicion, looked, expected) in [
            (Some(GuidRefused), Some(Alive), Alive),
            (Some(GuidRefused), Some(SignedOut), SignedOut),
            (Some(GuidRefused), None, GuidRefused),
            (Some(SignedOut), Some(AnswerLost), AnswerLost),
            (Some(SignedOutByOthers), Some(Alive), Alive),
            (Some(SignedOutByOthers), Some(SignedOut), SignedOutByOthers),
            (Some(SignedOutByOthers), Some(GuidRefused), SignedOutByOthers),
            (Some(SignedOutByOthers), Some(Silent), Silent),
            (Some(SignedOutByOthers), None, Alive),
            (Some(Switchover), None, Alive),
            (Some(Switchover), Some(Switchover), Switchover),
            (Some(Silent), None, Silent),
            (None, Some(GuidRefused), GuidRefused),
            (None, None, Alive),
        ] {
            assert_eq!(judge(suspicion, looked), expected, "{suspicion:?} {looked:?}");
        }
    }
}
