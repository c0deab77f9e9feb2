//! What a roster does that polls on while the store is away, and what it looks at before.
//!
//! An agent may be between two replicas when the store goes away. The one that gave the lease back has
//! to know whether the other one has taken it, and the other one whether there is still somebody to
//! wait for.

use std::collections::HashSet;

use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use super::{Cause, Polls, Roster, TURNS, held::Asked, turn::READS_AT_ONCE};
use crate::{
    config::WhenAway,
    id::AgentId,
    replica::{LEASES_AT_ONCE, ReplicaId},
    session::StoreError,
};

impl Roster {
    /// While the store answers: who has the leases that were given back here, and which of those that
    /// this replica wants belong to replicas that have gone away.
    pub(super) async fn look_around(
        &self,
        wanted: &HashSet<AgentId>,
        replicas: &[ReplicaId],
        polls: &impl Polls,
    ) {
        let asked_for: HashSet<AgentId> = {
            let held = self.held();
            let held_here: HashSet<AgentId> = held.agents().into_iter().collect();
            wanted.difference(&held_here).copied().chain(held.untaken()).collect()
        };
        // What is not known is looked at again in the next turn.
        let Ok(owners) = self.owners(asked_for).await else { return };
        let left_behind = owners
            .iter()
            .filter(|(agent, owner)| wanted.contains(agent) && !replicas.contains(owner));
        let left_behind: HashSet<AgentId> = left_behind.map(|(agent, _)| *agent).collect();
        {
            let mut held = self.held();
            for (agent, _) in &owners {
                held.taken(*agent);
            }
            held.leave_behind(left_behind.clone());
        }
        // So that the sessions are known here, should the store be away when they are needed.
        self.read(left_behind, polls, |_known| {}).await;
    }

    /// The store does not say who is there. Where polls are to go on, they do for everybody who would
    /// be polled by nobody else.
    pub(super) async fn go_without(&self, asked: Asked, polls: &impl Polls) {
        let (unpolled, untaken, left_behind) = {
            let mut held = self.held();
            let agents = held.agents();
            for agent in &agents {
                held.unanswered(*agent, asked);
            }
            (agents, held.untaken(), held.left_behind())
        };
        let has_lasted = self.fails() >= self.leases.time();
        if self.when_away == WhenAway::Stop {
            return;
        }
        // A store that takes no writes may still be read. One that cannot be may only have been slow
        // this once; later, two pollers cost less than none.
        let untaken = match self.owners(untaken.iter().copied().collect()).await {
            Ok(owners) => {
                // Noted, since the leases of the others end as well, and their polls do not.
                let mut held = self.held();
                for (agent, _) in owners {
                    held.taken(agent);
                }
                held.untaken()
            }
            Err(_unavailable) if has_lasted => untaken,
            Err(_unavailable) => Vec::new(),
        };
        // By then their leases have ended, and with them the polls of whoever has gone away.
        let left_behind = left_behind.into_iter().filter(|_| has_lasted);
        // Polls that have ended for a hand-over, which does not come now, are among those unpolled.
        let agents = unpolled.into_iter().chain(untaken).chain(left_behind);
        let agents = agents.filter(|agent| !polls.is_polling(*agent));
        let begin = |agent| {
            let mut held = self.held();
            held.assume(agent, asked);
            self.begin(&held, agent, Cause::TakenOver, polls);
        };
        self.read(agents, polls, begin).await;
    }

    /// Reads the sessions of these agents, many at once, and gives each that is to be kept to `then`.
    /// Takes no longer than leases can wait for the next turn, which sees to the rest.
    async fn read(
        &self,
        agents: impl IntoIterator<Item = AgentId>,
        polls: &impl Polls,
        then: impl Fn(AgentId),
    ) {
        let then = &then;
        let reading = stream::iter(agents).for_each_concurrent(READS_AT_ONCE, |agent| async move {
            if polls.is_wanted(agent).await {
                then(agent);
            }
        });
        let _late = timeout(self.leases.time() / TURNS / 2, reading).await;
    }

    /// Which of these leases other replicas have, and who.
    async fn owners(
        &self,
        agents: HashSet<AgentId>,
    ) -> Result<Vec<(AgentId, ReplicaId)>, StoreError> {
        let agents: Vec<AgentId> = agents.into_iter().collect();
        let mut owners = Vec::new();
        for some in agents.chunks(LEASES_AT_ONCE) {
            owners.extend(self.leases.held_by_others(some.to_vec()).await?);
        }
        Ok(owners)
    }
}
