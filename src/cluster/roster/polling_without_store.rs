//! Polling without the store (`store.when_away = "keep"`): what a roster does while the store is
//! away, and what it checks before.
//!
//! An agent may be between two replicas when the store goes away. The replica that released the
//! lease has to know whether the other one has taken it. The other one has to know whether the
//! first one still polls.

use std::{collections::HashSet, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::timeout;

use super::{
    Roster, TURNS,
    held::Asked,
    rebalance::{READS_AT_ONCE, REQUESTS_AT_ONCE},
};
use crate::{
    cluster::{LEASES_AT_ONCE, Membership, ReplicaId, preferred_replica},
    config::WhenAway,
    id::AgentId,
    session::StoreError,
    tenant::{Cause, Polls},
};

impl Roster {
    /// Checks, while the store answers, who has the leases that were released here. Also checks
    /// which of the leases that this replica wants belong to replicas that have gone away.
    ///
    /// Ends before leases have to be renewed. The next turn checks what is still unknown.
    pub(super) async fn check_other_leases(
        &self,
        wanted: &HashSet<AgentId>,
        replicas: &[ReplicaId],
        polls: &dyn Polls,
    ) {
        let asked_for = {
            let mut held = self.held();
            held.store_answers();
            held.look(replicas, wanted)
        };
        let checking = async {
            if self.read_owners(asked_for).await.is_ok() {
                // So that the sessions are cached here if the store is away when they are needed.
                let left_behind = self.held().unheld_leases().left_behind(false, true);
                self.read(left_behind, polls, |_known| {}).await;
            }
        };
        let _late = timeout(self.check_max(), checking).await;
    }

    /// Goes on while the store does not return the membership. With [`WhenAway::Keep`], polls for
    /// all agents whom nobody else would poll.
    pub(super) async fn poll_without_store(&self, asked: Asked, polls: &dyn Polls) {
        {
            let mut held = self.held();
            for agent in held.agents() {
                held.unanswered(agent, asked);
            }
        }
        let has_lasted = self.note_failure() >= self.leases.time();
        if self.when_away == WhenAway::Stop {
            return;
        }
        // A store that takes no writes may still be read. One that cannot be read may have been
        // slow only this once. Only after the time of a lease are two pollers better than none.
        let is_read = matches!(
            timeout(self.check_max(), self.read_membership_and_leases()).await,
            Ok(Ok(()))
        );
        if !is_read {
            self.note_unreadable();
        }
        // Read only now, since sessions may have been lost during the wait above.
        let (own, untaken, left_behind) = {
            let held = self.held();
            let untaken = if is_read || has_lasted { held.untaken() } else { Vec::new() };
            (held.agents(), untaken, held.unheld_leases().left_behind(is_read, has_lasted))
        };
        // This replica's own agents include those whose polls have ended for a hand-over that does
        // not happen now.
        let agents = own.into_iter().chain(untaken).chain(left_behind);
        let agents = agents.filter(|agent| !polls.is_polling(*agent));
        let begin = |agent| {
            let mut held = self.held();
            held.assume(agent, asked);
            self.begin(&held, agent, Cause::TakenOver, polls);
        };
        self.read(agents, polls, begin).await;
    }

    /// Reads the membership and the holders of leases. Needed while the request for the membership
    /// is refused because it also writes. A replica that goes away can say so even to a store that
    /// takes no other writes. Replicas that have died are recognized by their missing heartbeats.
    async fn read_membership_and_leases(&self) -> Result<(), StoreError> {
        // If the heartbeat fails or takes too long, reading can still work.
        let calling = timeout(self.check_max() / 2, self.leases.send_heartbeat());
        let (_unheard, membership) = tokio::join!(calling, self.leases.read_membership());
        let Membership { mut replicas, agents } = membership?;
        self.remove_silent(&mut replicas);
        let asked_for = {
            let mut held = self.held();
            // If this replica is missing in the list, the others still write the list, or it is
            // gone.
            if replicas.contains(&self.me) {
                let mine = |agent: &AgentId| preferred_replica(*agent, &replicas) == Some(self.me);
                held.look(&replicas, &agents.into_iter().filter(mine).collect())
            } else {
                held.untaken().into_iter().collect()
            }
        };
        self.read_owners(asked_for).await
    }

    /// How long a check may take, so that leases are renewed in time.
    fn check_max(&self) -> Duration {
        self.leases.time() / TURNS / 2
    }

    /// Reads the sessions of these agents, many at once, and calls `then` for each agent whose
    /// session is to be kept. Ends before leases have to be renewed. The next turn does the rest.
    async fn read(
        &self,
        agents: impl IntoIterator<Item = AgentId>,
        polls: &dyn Polls,
        then: impl Fn(AgentId),
    ) {
        let then = &then;
        let reading = stream::iter(agents).for_each_concurrent(READS_AT_ONCE, |agent| async move {
            if polls.is_wanted(agent).await {
                then(agent);
            }
        });
        let _late = timeout(self.check_max(), reading).await;
    }

    /// Reads which of these leases other replicas have, and notes the holders as the answers come.
    async fn read_owners(&self, agents: HashSet<AgentId>) -> Result<(), StoreError> {
        let agents: Vec<AgentId> = agents.into_iter().collect();
        let chunks: Vec<Vec<AgentId>> =
            agents.chunks(LEASES_AT_ONCE).map(<[AgentId]>::to_vec).collect();
        let requests = stream::iter(chunks).map(|some| async move {
            let owners = self.leases.held_by_others(some.clone()).await?;
            self.held().saw(&some, owners);
            Ok(())
        });
        requests.buffer_unordered(REQUESTS_AT_ONCE).try_for_each(async |()| Ok(())).await
    }
}
