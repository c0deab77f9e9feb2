//! Operations of inspectors on other agents.

use serde_json::json;

use super::{
    Records,
    parameters::{bad_parameter, refuse_unless},
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
        let may = options.inspectors.is_empty() || options.inspectors.contains(&inspector);
        refuse_unless(may, &codes.no_inspector)?;

        let absent = || Refused(codes.target_absent.clone());
        let record = self.by_id.get_mut(&target).ok_or_else(absent)?;
        record.apply_due(options);
        record.check_no_switch_over()?;
        record.session.as_ref().ok_or_else(absent)?;
        match route.interface {
            Interface::ForceBusy => record.force_busy(options)?,
            Interface::ForceIdle => record.force_idle(options)?,
            _ => record.end_session(options, true),
        }
        Ok(Reply::result(options, &json!({})))
    }
}
