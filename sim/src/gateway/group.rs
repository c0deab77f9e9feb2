//! Questions about all agents, and about what is configured for them. Only client code shows these
//! interfaces, and little of their results: where a form is made up, the function says so.

use serde_json::{Value, json};

use super::{
    Records,
    parameters::{bad_parameter, refuse_unless},
    settings::agent_skills,
};
use crate::{
    agent::{AgentState, Refused, name},
    interface::Interface,
    options::Options,
    reply::Reply,
    retcode::Retcode,
    route::Route,
};

// === impl Records ===

impl Records {
    /// Answers any question about all agents.
    pub(super) fn ask_group(
        &mut self,
        agent: u32,
        route: &Route,
        options: &Options,
    ) -> Result<Reply, Refused> {
        let result = match route.interface {
            Interface::AllAgentStatus => self.agents(options, |_| true, status),
            Interface::IdleAgents => {
                self.agents(options, |state| state == AgentState::Idle, |id, _| named(id))
            }
            // That number and items are those of allagentstatus is inferred.
            Interface::AgentsByStatus => {
                let wanted = route.parameter("status").and_then(|text| text.parse().ok());
                let wanted: u8 = wanted.ok_or_else(bad_parameter)?;
                self.agents(options, |state| state.code() == wanted, status)
            }
            // The form of the items is made up.
            Interface::RestReasons => {
                let reason = |id: &u8| json!({ "id": id, "name": format!("rest {id}") });
                options.rest_reasons.iter().map(reason).collect()
            }
            // The form is made up.
            Interface::IsInspector => json!(options.is_inspector(agent)),
            // A number (client). No calls wait here.
            _ => json!(0),
        };
        Ok(Reply::result(options, &result))
    }

    /// The agents in such a state that any request has named, by id.
    fn agents(
        &mut self,
        options: &Options,
        is_wanted: impl Fn(AgentState) -> bool,
        item: impl Fn(u32, AgentState) -> Value,
    ) -> Value {
        let mut states = Vec::new();
        for (id, record) in &mut self.by_id {
            record.apply_due(options);
            states.push((*id, record.state_machine.shown()));
        }
        states.sort_by_key(|(id, _)| *id);
        let wanted = states.into_iter().filter(|(_, state)| is_wanted(*state));
        wanted.map(|(id, state)| item(id, state)).collect()
    }
}

/// The skills of another agent: all agents have the same (`cec_07_1207`).
pub(super) fn skills_by_work_no(route: &Route, options: &Options) -> Result<Reply, Refused> {
    let agent: u32 =
        route.tail.first().and_then(|text| text.parse().ok()).ok_or_else(bad_parameter)?;
    refuse_unless(options.has_agent(agent), Retcode::BadParameter)?;
    agent_skills(options)
}

fn named(id: u32) -> Value {
    json!({ "workno": id.to_string(), "name": name(id) })
}

/// An item of allagentstatus (client).
fn status(id: u32, state: AgentState) -> Value {
    json!({
        "workno": id.to_string(),
        "name": name(id),
        "status": state.code(),
        "ctiStatus": state.cti_code(),
    })
}
