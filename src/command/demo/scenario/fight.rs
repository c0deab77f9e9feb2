//! Two programs want the same agent.

use std::time::Duration;

use ccgateway_sim::Simulator;
use tokio::time::{sleep, timeout};

use super::{
    super::{Failure, PASSWORD},
    stage::{Stage, busy, is_accepted, is_sign_in, reason},
};
use crate::rpc::proto::{
    SessionState, SignInRequest, WatchEventsRequest, watch_events_response::What,
};

/// How often the other program looks whether it still has the agent.
const LOOK: Duration = Duration::from_millis(300);

pub(super) async fn play(stage: &Stage) -> Result<(), Failure> {
    let agent = *stage.agents.start();
    sign_in(stage, agent).await?;
    stage.tell(format_args!("the bridge has signed agent {agent} in, and keeps the session"));
    let agent_ids = vec![agent.to_string()];
    let request = WatchEventsRequest { agent_ids, ..WatchEventsRequest::default() };
    let mut events = stage.events().watch_events(request).await?.into_inner();
    let mut rival = None;
    loop {
        rival = rival_acts(stage, agent, rival);
        let Ok(event) = timeout(LOOK, events.message()).await else { continue };
        let event = event?.ok_or("the stream of events has ended")?;
        let Some(What::SessionChange(change)) = event.what else { continue };
        let name = change.state().as_str_name().trim_start_matches("SESSION_STATE_").to_lowercase();
        let why = match change.description.as_str() {
            "" => String::new(),
            description => format!(": {description}"),
        };
        stage.tell(format_args!("bridge: the session is {name}{why}"));
        if change.state() == SessionState::Lost {
            break;
        }
        // So that it can be followed.
        sleep(LOOK).await;
    }
    let journal = stage.sites.iter().flat_map(Simulator::journal);
    let sign_ins = journal.filter(|entry| is_sign_in(entry) && is_accepted(entry)).count();
    stage.tell(format_args!(
        "the fight is over; the bridge has signed the agent in {sign_ins} times"
    ));
    match stage.states().set_busy(busy(agent)).await {
        Err(status) => stage.tell(format_args!("SetBusy: {}; nothing was sent", reason(&status))),
        Ok(_accepted) => return Err("the agent was not given up".into()),
    }
    sign_in(stage, agent).await?;
    stage.states().set_busy(busy(agent)).await?;
    stage.tell("a caller has decided who gets the agent, by SignIn with force; SetBusy: OK");
    Ok(())
}

async fn sign_in(stage: &Stage, agent: u32) -> Result<(), Failure> {
    let request = SignInRequest {
        agent_id: agent.to_string(),
        password: Some(PASSWORD.into()),
        force: true,
        ..SignInRequest::default()
    };
    stage.sessions().sign_in(request).await?;
    Ok(())
}

/// The other program takes the agent over, unless it has the agent. `rival` is the Guid of its session.
fn rival_acts(stage: &Stage, agent: u32, rival: Option<String>) -> Option<String> {
    let gateway = stage.sites.first()?;
    let guid = gateway.agent(agent).and_then(|agent| agent.guid);
    if rival.is_some() && guid == rival {
        return rival;
    }
    let taken = gateway.take_over(agent);
    if taken.is_some() {
        stage.tell("other: takes the agent over, by force");
    }
    taken
}
