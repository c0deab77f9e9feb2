//! What agents set beside their state.

use serde_json::{Value, json};

use super::{Records, parameters::skills_asked};
use crate::sim::{agent::Refused, interface::Route, options::Options, reply::Reply};

/// The `mediatype` of ordinary calls (`cec_07_1206`).
const VOICE: u8 = 5;

// === impl Records ===

impl Records {
    pub(super) fn reset_skills(
        &mut self,
        route: &Route,
        options: &Options,
    ) -> Result<Reply, Refused> {
        let asked_for = skills_asked(route)?;
        let session = self.desk(route.agent).signed_in(options)?;
        session.settings.reset_skills(&asked_for, options);
        Ok(Reply::accepted(options))
    }
}

/// The configured skills, whether signed in to or not (`cec_07_1206`); none is 600-001 (client).
pub(super) fn agent_skills(options: &Options) -> Result<Reply, Refused> {
    if options.skills.is_empty() {
        return Err(Refused("600-001".into()));
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
