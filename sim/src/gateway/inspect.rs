//! Operations of inspectors on other agents.

use serde_json::json;

use super::{
    Records,
    parameters::{bad_parameter, forced_rest, refuse_unless},
};
use crate::{
    agent::Refused, interface::Interface, options::Options, reply::Reply, retcode::Retcode,
    route::Route,
};

// === impl Records ===

impl Records {
    /// An inspector's operation on another agent (`cec_07_2405`, `cec_07_2406`, `cec_07_2407`).
    pub(super) fn inspect(
        &mut self,
        inspector: u32,
        route: &Route,
        options: &Options,
    ) -> Result<Reply, Refused> {
        let codes = &options.codes;
        let target = route.tail.first().and_then(|text| text.parse().ok());
        let target: u32 = target.ok_or_else(bad_parameter)?;
        refuse_unless(target != inspector, Retcode::InspectsItself)?;
        refuse_unless(options.is_inspector(inspector), &codes.no_inspector)?;

        let absent = || Refused(codes.target_absent.clone());
        let record = self.by_id.get_mut(&target).ok_or_else(absent)?;
        record.apply_due(options);
        record.check_no_switch_over()?;
        record.session.as_ref().ok_or_else(absent)?;
        match route.interface {
            Interface::ForceBusy => record.force_busy(options)?,
            Interface::ForceIdle => record.force_idle(options)?,
            Interface::ForceRest => record.force_rest(forced_rest(route, options)?, options)?,
            _ => record.end_session(options, true),
        }
        Ok(Reply::result(options, &json!({})))
    }

    /// Begins or ends to monitor other agents (client).
    pub(super) fn monitor(
        &mut self,
        inspector: u32,
        route: &Route,
        options: &Options,
    ) -> Result<Reply, Refused> {
        refuse_unless(options.is_inspector(inspector), &options.codes.no_inspector)?;
        let agents = monitored(route, options)?;
        let notices = self.record(inspector).notices();
        let begins = route.interface == Interface::BeginMonitor && options.monitor_events;
        for agent in agents {
            let inspectors = &mut self.record(agent).inspectors;
            if begins {
                inspectors.add(&notices);
            } else {
                inspectors.remove(&notices);
            }
        }
        Ok(Reply::result(options, &json!({})))
    }
}

/// The most agents that an inspector may name in one request (client).
const MONITORED_MAX: usize = 500;

/// The agents to monitor, as the parameter names them (client).
fn monitored(route: &Route, options: &Options) -> Result<Vec<u32>, Refused> {
    let agents = route.parameter("agents").unwrap_or_default();
    let agents = agents.split(';').filter(|id| !id.is_empty()).map(str::parse);
    let agents: Vec<u32> = agents.collect::<Result<_, _>>().map_err(|_| bad_parameter())?;
    refuse_unless((1..=MONITORED_MAX).contains(&agents.len()), Retcode::BadParameter)?;
    let are_there = agents.iter().all(|agent| options.has_agent(*agent));
    refuse_unless(are_there, &options.codes.target_unknown)?;
    Ok(agents)
}
