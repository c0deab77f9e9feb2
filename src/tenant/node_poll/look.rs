//! How the members of a node's poll are looked at: each once in `keep.guid_interval`, by a request about this agent alone. It
//! renews the Guid where Guids change, and shows in any case whether the session is good.

use std::{mem, ops::Bound, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::NodePoll;
use crate::{
    config::AuthMode,
    gateway::AGENT_STATUS,
    id::AgentId,
    session::Session,
    tenant::{
        Tenant, agent_status::means_no_such_interface, agents::Node, keeper::Parting, renewals,
        single_poll::Finding,
    },
};

/// A round through all members has so many steps, or more.
const STEPS: u32 = 45;
/// The longest step. New members have their turn soon enough, also if there were few when it began.
const STEP_MAX: Duration = Duration::from_secs(1);

/// How many members are looked at in each step, so that each has its turn once in the interval.
#[derive(Debug)]
struct Pace {
    /// When the last step began. Steps are longer where looks take long, and then have more of them.
    last: Instant,
    /// The part of a look for which no step was long enough so far, in nanoseconds of the interval.
    left: u128,
}

impl NodePoll {
    /// Looks at the members in turn, until the polls have ended.
    pub(super) async fn look_around(&self, ended: &CancellationToken) {
        let (mut last, mut pace) = (None::<AgentId>, Pace::begin_at(Instant::now()));
        loop {
            let tenant = self.tenant.newest();
            let (interval, agents) = (tenant.config.keep.guid_interval, &tenant.agents);
            let step = (interval / STEPS).min(STEP_MAX);
            if ended.run_until_cancelled(sleep(step)).await.is_none() {
                return;
            }
            if !tenant.can_look() {
                continue;
            }
            let most = pace.next(agents.member_count(&self.node), Instant::now(), interval);
            let begin = last.map_or(Bound::Unbounded, Bound::Excluded);
            let members = agents.members(&self.node, begin, most);
            last = members.last().copied().or(last);
            let at_once = renewals(&tenant.config.limits);
            let looks = |agent| tenant.clone().look_in_turn(agent, self.node.clone());
            stream::iter(members).for_each_concurrent(at_once, looks).await;
        }
    }
}

impl Pace {
    fn begin_at(begin: Instant) -> Self {
        Self { last: begin, left: 0 }
    }

    fn next(&mut self, members: usize, now: Instant, interval: Duration) -> usize {
        let whole = interval.as_nanos().max(1);
        let step = now.saturating_duration_since(mem::replace(&mut self.last, now));
        let due = self.left + members as u128 * step.as_nanos();
        self.left = due % whole;
        usize::try_from(due / whole).unwrap_or(members).min(members)
    }
}

impl Tenant {
    /// Whether a request about one agent shows if its session is good.
    pub(super) fn can_look(&self) -> bool {
        self.config.auth_mode == AuthMode::Dynamic || AGENT_STATUS.is_in(self.config.edition)
    }

    async fn look_in_turn(self: Arc<Self>, agent: AgentId, node: Node) {
        let Some(session) = self.session_at(&node, agent).await else {
            return self.part(agent, Parting::default());
        };
        let asked = Instant::now();
        match self.look_at(agent, &session).await {
            Some(Finding::Alive) => {
                self.was_good(agent, asked, true);
                self.store_anew(agent, &session).await;
                // The new Guid may name another node.
                if self.session_at(&node, agent).await.is_none() {
                    self.part(agent, Parting::default());
                }
            }
            Some(found @ (Finding::GuidRefused | Finding::SignedOut)) => {
                self.part(agent, Parting { suspicion: Some(found), ..<_>::default() });
            }
            Some(Finding::AnswerLost) if self.config.auth_mode == AuthMode::Dynamic => {
                self.part(agent, Parting { newer_guid_may_be_lost: true, ..<_>::default() });
            }
            // The poll of the node shows whether the gateway answers.
            _ => {}
        }
    }

    /// Asks the gateway about the session of one agent. `None`: this gateway cannot be asked that.
    pub(in crate::tenant) async fn look_at(
        self: &Arc<Self>,
        agent: AgentId,
        session: &Session,
    ) -> Option<Finding> {
        if self.config.auth_mode == AuthMode::Dynamic {
            return Some(Box::pin(self.renew(agent)).await);
        }
        if !self.can_look() {
            return None;
        }
        // The semaphore is never closed.
        let _place = self.renewals.acquire().await.ok()?;
        let mut reply = match self.ask_unasked(&AGENT_STATUS, agent, session).await {
            Ok(reply) => reply,
            Err(error) => return Some(Finding::of(&error)),
        };
        self.store_renewals(agent, session, &mut reply).await;
        match reply.into_verdict(session.guid.node()) {
            Ok(_) => Some(Finding::Alive),
            Err(error) if means_no_such_interface(&error) => None,
            Err(error) => Some(Finding::of(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_has_its_turn_once_in_the_interval() {
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let interval = 45 * second;
        for (members, first) in [(0, 0), (1, 0), (3, 0), (45, 1), (46, 1), (10_000, 222)] {
            let (mut pace, mut now) = (Pace::begin_at(begin), begin);
            let mut next = || {
                now += second;
                pace.next(members, now, interval)
            };
            assert_eq!(next(), first, "{members}");
            assert_eq!(first + (1..45).map(|_| next()).sum::<usize>(), members);
            assert_eq!((0..90).map(|_| next()).sum::<usize>(), 2 * members);
        }
        let mut pace = Pace::begin_at(begin);
        let most = pace.next(7, begin + 3600 * second, Duration::from_millis(1));
        assert_eq!(most, 7, "none more than once");
    }

    #[test]
    fn members_have_their_turns_in_time_although_looks_take_long() {
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let mut pace = Pace::begin_at(begin);
        let nows = [1, 4, 5, 15, 45].map(|after| begin + second * after);
        let looks = nows.map(|now| pace.next(450, now, 45 * second));
        assert_eq!(looks, [10, 30, 10, 100, 300]);
    }
}
