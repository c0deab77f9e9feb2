//! Many agents need a sign-in at once.

use std::{collections::BTreeMap, time::Duration};

use ccgateway_sim::Simulator;
use tokio::{
    task::JoinSet,
    time::{interval, sleep},
};
use tonic::Request;
use tonic_types::StatusExt as _;

use super::{
    super::{Failure, say},
    stage::{Stage, busy, is_sign_in, reason},
};
use crate::{client::Channel, rpc::proto::agent_state_client::AgentStateClient};

/// How long a caller waits for each answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long before it calls again, if it is not told, and at the most.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(500);
const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn play(stage: &Stage) -> Result<(), Failure> {
    let agents = stage.agents.clone();
    stage.tell(format_args!("a caller for each of {} agents: SetBusy", agents.clone().count()));
    let mut callers: JoinSet<_> = agents.map(|agent| insist(stage.states(), agent)).collect();
    let mut heard: BTreeMap<String, usize> = BTreeMap::new();
    let mut ticks = interval(LOOK);
    ticks.tick().await;
    loop {
        tokio::select! {
            done = callers.join_next() => {
                let Some(reasons) = done else { break };
                for reason in reasons? {
                    *heard.entry(reason).or_default() += 1;
                }
            }
            _ = ticks.tick() => tell_signed_in(stage),
        }
    }
    tell_signed_in(stage);
    say("");
    for (reason, count) in heard {
        say(format_args!("  callers heard {count} times: {reason}, and when to come back"));
    }
    tell_sign_ins(stage);
    Ok(())
}

/// Calls until the agent is busy, as a good caller does: it comes back when it is told to. Gives the reasons of the
/// refusals.
async fn insist(mut states: AgentStateClient<Channel>, agent: u32) -> Vec<String> {
    let mut reasons = Vec::new();
    loop {
        let mut request = Request::new(busy(agent));
        request.set_timeout(PATIENCE);
        let Err(refusal) = states.set_busy(request).await else { return reasons };
        reasons.push(reason(&refusal));
        let details = refusal.get_error_details();
        let told = details.retry_info().and_then(|retry| retry.retry_delay);
        sleep(told.unwrap_or(PAUSE).clamp(PAUSE, PAUSE_MAX)).await;
    }
}

fn tell_signed_in(stage: &Stage) {
    let Some(gateway) = stage.sites.first() else { return };
    let is_in = |agent: &u32| gateway.agent(*agent).is_some_and(|agent| agent.signed_in);
    let count = stage.agents.clone().filter(is_in).count();
    stage.tell(format_args!("{count} are signed in {}", "*".repeat(count / 2)));
}

/// Tells how many sign-ins the gateway got, and how many of them in one second.
fn tell_sign_ins(stage: &Stage) {
    let journal = stage.sites.iter().flat_map(Simulator::journal);
    let moments: Vec<_> = journal.filter(is_sign_in).map(|entry| entry.at).collect();
    let within_a_second = |begin: &Duration| {
        moments.iter().filter(|at| (*begin..*begin + SECOND).contains(*at)).count()
    };
    let most = moments.iter().map(within_a_second).max().unwrap_or_default();
    let (sign_ins, agents) = (moments.len(), stage.agents.clone().count());
    say(format_args!(
        "  the gateway got {sign_ins} sign-ins for {agents} agents, at most {most} in a second"
    ));
}
