//! What a roster does that polls on while the store is away, and what it looks at before.
//!
//! An agent may be between two replicas when the store goes away. The one that gave the lease back has
//! to know whether the other one has taken it, and the other one whether there is still somebody to
//! wait for.

use std::{collections::HashSet, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::timeout;

use super::{
    Roster, TURNS,
    held::Asked,
    rebalance::{READS_AT_ONCE, REQUESTS_AT_ONCE},
};
use crate::{
    cluster::{LEASES_AT_ONCE, Membership, ReplicaId, preferred},
    config::WhenAway,
    id::AgentId,
    session::StoreError,
    tenant::{Cause, Polls},
};

impl Roster {
    /// While the store answers: who has the leases that were given back here, and which of those that
    /// this replica wants belong to replicas that have gone away.
    ///
    /// Takes no longer than leases can wait for the next turn, which looks again at what is not known.
    pub(super) async fn look_around(
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
        let looking = async {
            if self.see_owners(asked_for).await.is_ok() {
                // So that the sessions are known here, should the store be away when they are needed.
                let left_behind = self.held().around().left_behind(false, true);
                self.read(left_behind, polls, |_known| {}).await;
            }
        };
        let _late = timeout(self.look_max(), looking).await;
    }

    /// The store does not say who is there. Where polls are to go on, they do for everybody who would
    /// be polled by nobody else.
    pub(super) async fn go_without(&self, asked: Asked, polls: &dyn Polls) {
        {
            let mut held = self.held();
            for agent in held.agents() {
                held.unanswered(agent, asked);
            }
        }
        let has_lasted = self.fails() >= self.leases.time();
        if self.when_away == WhenAway::Stop {
            return;
        }
        // A store that takes no writes may still be read. One that cannot be may only have been slow
        // this once; later, two pollers cost less than none.
        let is_read = matches!(timeout(self.look_max(), self.look_again()).await, Ok(Ok(())));
        if !is_read {
            self.stops_hearing();
        }
        // After the wait above, in which sessions may have been lost.
        let (own, untaken, left_behind) = {
            let held = self.held();
            let untaken = if is_read || has_lasted { held.untaken() } else { Vec::new() };
            (held.agents(), untaken, held.around().left_behind(is_read, has_lasted))
        };
        // Polls that have ended for a hand-over, which does not come now, are among one's own.
        let agents = own.into_iter().chain(untaken).chain(left_behind);
        let agents = agents.filter(|agent| !polls.is_polling(*agent));
        let begin = |agent| {
            let mut held = self.held();
            held.assume(agent, asked);
            self.begin(&held, agent, Cause::TakenOver, polls);
        };
        self.read(agents, polls, begin).await;
    }

    /// Reads who is there and who has leases, where the request for the membership is refused because it
    /// also writes. A replica can say that it goes away even to a store that takes no other writes, and of
    /// those that died the others hear nothing any more.
    async fn look_again(&self) -> Result<(), StoreError> {
        // Whoever cannot call out, or not in time, can still read.
        let calling = timeout(self.look_max() / 2, self.leases.call_out());
        let (_unheard, membership) = tokio::join!(calling, self.leases.look());
        let Membership { mut replicas, agents } = membership?;
        self.living(&mut replicas);
        let asked_for = {
            let mut held = self.held();
            // Without this replica, the list is one that the others go on writing, or is gone.
            if replicas.contains(&self.me) {
                let mine = |agent: &AgentId| preferred(*agent, &replicas) == Some(self.me);
                held.look(&replicas, &agents.into_iter().filter(mine).collect())
            } else {
                held.untaken().into_iter().collect()
            }
        };
        self.see_owners(asked_for).await
    }

    /// How long looking may take before leases have to be renewed.
    fn look_max(&self) -> Duration {
        self.leases.time() / TURNS / 2
    }

    /// Reads the sessions of these agents, many at once, and gives each that is to be kept to `then`.
    /// Takes no longer than leases can wait for the next turn, which sees to the rest.
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
        let _late = timeout(self.look_max(), reading).await;
    }

    /// Notes which of these leases other replicas have, and who, as the answers come.
    async fn see_owners(&self, agents: HashSet<AgentId>) -> Result<(), StoreError> {
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
