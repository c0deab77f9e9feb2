//! A turn of the roster: reads the membership, then takes, renews and hands over leases.

use std::collections::HashSet;

use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{Roster, TURNS, held::Asked};
use crate::{
    cluster::{LEASES_AT_ONCE, Membership, preferred_replica},
    config::WhenAway,
    id::AgentId,
    session::StoreError,
    tenant::{Cause, Polls},
};

/// How many requests for leases are under way at once.
pub(super) const REQUESTS_AT_ONCE: usize = 4;
/// How many sessions are read at once, before their agents are polled. The link sends concurrent
/// reads together in one round trip.
pub(super) const READS_AT_ONCE: usize = 128;

impl Roster {
    /// Takes one turn.
    pub(super) async fn turn(&self, polls: &dyn Polls) {
        let asked = self.held().ask();
        let Ok(Membership { replicas, agents }) = self.leases.membership().await else {
            self.poll_without_store(asked, polls).await;
            return;
        };
        let mine = |agent: &AgentId| {
            polls.can_have(*agent) && preferred_replica(*agent, &replicas) == Some(self.me)
        };
        let listed: HashSet<AgentId> = agents.iter().filter(|agent| mine(agent)).copied().collect();
        // The list may have been lost since an agent was handed over to this replica.
        let known: HashSet<AgentId> = polls.known().into_iter().filter(mine).collect();
        let held: HashSet<AgentId> = self.held().agents().into_iter().collect();
        let unlisted: HashSet<AgentId> =
            held.iter().chain(&known).filter(|agent| mine(agent)).copied().collect();
        let unlisted = unlisted.difference(&listed).copied().collect();
        let unlisted = self.list_again(unlisted, polls).await;
        let wanted: HashSet<AgentId> = listed.into_iter().chain(unlisted).collect();
        let mut ours = wanted.clone();
        if self.is_settling() {
            ours.retain(|agent| held.contains(agent));
        }
        let others: Vec<AgentId> = held.into_iter().filter(|agent| !ours.contains(agent)).collect();
        // Another replica has to poll for these agents, and says itself if it cannot.
        for agent in polls.unkept().into_iter().filter(|agent| polls.can_have(*agent)) {
            if !wanted.contains(&agent) && preferred_replica(agent, &replicas) != Some(self.me) {
                polls.leave_to_others(agent);
            }
        }
        if self.renew_and_begin(&ours, &others, polls).await {
            self.note_recovery();
        }
        self.hand_over(others, polls).await;
        let _late = timeout(self.leases.time() / TURNS / 2, self.disbelieve(agents, polls)).await;
        if self.when_away == WhenAway::Keep {
            self.check_other_leases(&wanted, &replicas, polls).await;
        }
    }

    /// Counts the listed agents whom the tenant cannot have, and could not have when they were signed in: whoever writes in the store
    /// could list any. Agents with sessions stay listed, and their sessions stored: they are kept again if they are the tenant's
    /// once more.
    async fn disbelieve(&self, mut listed: Vec<AgentId>, polls: &dyn Polls) {
        let known: HashSet<AgentId> = polls.known().into_iter().collect();
        listed.retain(|agent| !polls.can_have(*agent) && !known.contains(agent));
        // To read what somebody else has listed must not take long.
        let unread = listed.len().saturating_sub(LEASES_AT_ONCE);
        listed.truncate(LEASES_AT_ONCE);
        let asking = stream::iter(listed).map(|agent| polls.may_have_session(agent));
        let asked = asking.buffer_unordered(READS_AT_ONCE);
        let strange = asked.filter(|has_session| std::future::ready(!has_session)).count().await;
        self.leases.disbelieve_agents(strange + unread);
    }

    /// Lists those of these agents again who are to be kept. They were polled or are known here, and are not listed
    /// any more: their session has ended, or the store has lost the list.
    async fn list_again(&self, agents: Vec<AgentId>, polls: &dyn Polls) -> Vec<AgentId> {
        let asking = stream::iter(agents)
            .map(|agent| async move { polls.is_wanted(agent).await.then_some(agent) });
        let asked = asking.buffer_unordered(READS_AT_ONCE);
        let wanted: Vec<AgentId> = asked.filter_map(std::future::ready).collect().await;
        if !wanted.is_empty() {
            let _next_turn = self.leases.list(wanted.clone()).await;
        }
        wanted
    }

    /// Takes or renews the leases of all these agents, and begins to poll for `ours`. Returns
    /// whether the store has answered all requests.
    ///
    /// The leases of `others` have to be handed over. They are renewed as long as their polls are
    /// under way.
    async fn renew_and_begin(
        &self,
        ours: &HashSet<AgentId>,
        others: &[AgentId],
        polls: &dyn Polls,
    ) -> bool {
        let mut all: Vec<AgentId> = ours.iter().chain(others).copied().collect();
        self.held().sort_by_end(&mut all);
        let (granted, mut to_begin) = mpsc::unbounded_channel();
        let mut is_answered = true;
        let renewing = async {
            let chunks: Vec<Vec<AgentId>> =
                all.chunks(LEASES_AT_ONCE).map(<[AgentId]>::to_vec).collect();
            let requests = stream::iter(chunks).map(|some| self.renew(some, polls));
            let mut answers = requests.buffer_unordered(REQUESTS_AT_ONCE);
            while let Some(answer) = answers.next().await {
                is_answered &= answer.is_ok();
                let agents = answer.unwrap_or_default().into_iter();
                for agent in agents.filter(|agent| ours.contains(agent)) {
                    let _sent = granted.send(agent);
                }
            }
            drop(granted);
            // If the store is slow to return sessions, the leases must be renewed nevertheless. The
            // next turn begins the remaining polls.
            sleep(self.leases.time() / TURNS / 2).await;
        };
        let agents = stream::poll_fn(|context| to_begin.poll_recv(context));
        let beginning = agents.for_each_concurrent(READS_AT_ONCE, |agent| async move {
            if polls.is_wanted(agent).await {
                let held = self.held();
                if !polls.is_polling(agent) {
                    self.begin(&held, agent, Cause::TakenOver, polls);
                }
            }
        });
        tokio::select! {
            () = renewing => {}
            () = beginning => {}
        }
        is_answered
    }

    /// Renews the leases of agents who have to be handed over.
    pub(super) async fn renew_all(&self, agents: Vec<AgentId>, polls: &dyn Polls) {
        let chunks: Vec<Vec<AgentId>> =
            agents.chunks(LEASES_AT_ONCE).map(<[AgentId]>::to_vec).collect();
        let requests = stream::iter(chunks).map(|some| self.renew(some, polls));
        // If a renewal fails, the clock task ends the lease and its poll in time.
        requests.buffer_unordered(REQUESTS_AT_ONCE).for_each(async |_answer| {}).await;
    }

    /// Takes or renews the leases of these agents. Returns the agents whose polls have to begin
    /// here.
    async fn renew(
        &self,
        agents: Vec<AgentId>,
        polls: &dyn Polls,
    ) -> Result<Vec<AgentId>, StoreError> {
        let asked = self.held().ask();
        let answer = self.leases.hold(agents.clone(), asked.request).await;
        let mut held = self.held();
        let holding: HashSet<AgentId> = match answer {
            Ok(holding) => holding.into_iter().collect(),
            Err(error) => {
                for agent in agents {
                    held.unanswered(agent, asked);
                }
                return Err(error);
            }
        };
        let mut to_begin = Vec::new();
        for agent in agents {
            if !holding.contains(&agent) {
                if held.refused(agent, asked) {
                    polls.stop(agent);
                }
            } else if held.granted(agent, asked) && !polls.is_polling(agent) {
                to_begin.push(agent);
            }
        }
        drop(held);
        self.first_lease.notify_one();
        Ok(to_begin)
    }

    pub(super) async fn hand_over(&self, agents: Vec<AgentId>, polls: &dyn Polls) {
        let mut finished = agents;
        let asked: Asked = {
            let mut held = self.held();
            let asked = held.ask();
            finished.retain(|agent| polls.finish(*agent));
            held.release(&finished, asked);
            asked
        };
        // The replica that is to poll now may not have heard of the sessions, and somebody may have removed them.
        let telling = stream::iter(finished.clone()).map(|agent| polls.tell_again(agent));
        let telling = telling.buffer_unordered(READS_AT_ONCE).for_each(async |()| {});
        let _late = timeout(self.leases.time() / TURNS, telling).await;
        for some in finished.chunks(LEASES_AT_ONCE) {
            let _unavailable = self.leases.release(some.to_vec(), asked.request).await;
        }
    }
}
