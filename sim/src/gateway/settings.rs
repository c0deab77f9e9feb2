//! The interfaces that change or show an agent's settings.

use serde_json::{Value, json};

use super::{
    Records,
    parameters::{custom_state, path_flag, skills_asked, talk_right},
};
use crate::{
    agent::Refused, interface::Interface, options::Options, reply::Reply, retcode::Retcode,
    route::Route,
};

/// The `mediatype` of ordinary calls (`cec_07_1206`).
const VOICE: u8 = 5;

// === impl Records ===

impl Records {
    /// Carries out a request of any interface that changes settings.
    pub(super) fn change_settings(
        &mut self,
        agent: u32,
        route: &Route,
        options: &Options,
    ) -> Result<Reply, Refused> {
        let settings = &mut self.record(agent).signed_in(options)?.settings;
        match route.interface {
            Interface::ResetSkill => {
                settings.reset_skills(&skills_asked(route, options)?, options);
            }
            Interface::AutoAnswer => settings.auto_answer = path_flag(route, options)?,
            Interface::AutoEnterIdle => settings.auto_idle = path_flag(route, options)?,
            Interface::SetTalkRight => settings.takes_calls = talk_right(route)?,
            Interface::SetCustomState => settings.custom_state = Some(custom_state(route)?),
            Interface::CancelCustomState => {
                let refused = || Refused(options.codes.state_refused.clone());
                settings.custom_state.take().ok_or_else(refused)?;
            }
            _ => {}
        }
        Ok(Reply::accepted(options))
    }

    /// Answers querycustomstate. The number is a string; 65535 presumably means that none is set
    /// (`cec_07_1229`).
    pub(super) fn custom_state(&mut self, agent: u32, options: &Options) -> Result<Reply, Refused> {
        let settings = &self.record(agent).signed_in(options)?.settings;
        let state = settings.custom_state.unwrap_or(u16::MAX).to_string();
        Ok(Reply::success(options, &json!({ "agentcustomstate": state })))
    }
}

/// Answers agentskills: all configured skills, whether the agent is signed in to them or not
/// (`cec_07_1206`). Without any skills the answer is 600-001 (client).
pub(super) fn agent_skills(options: &Options) -> Result<Reply, Refused> {
    if options.skills.is_empty() {
        return Err(Refused(Retcode::NoSkill.into()));
    }
    let skill = |id: &u32| {
        json!({
            "name": format!("skill {id}"),
            "id": id,
            "mediatype": VOICE,
            "serviceType": 0,
            "realFlag": 1,
        })
    };
    let skills: Value = options.skills.iter().map(skill).collect();
    Ok(Reply::result(options, &skills))
}
