//! Reads and checks the parameters of requests.

use std::time::Duration;

use crate::{
    agent::Refused,
    options::Options,
    retcode::Retcode,
    route::Route,
    settings::SkillsAsked,
    state_machine::{BusyRequest, RestRequest},
};

/// The parameters of saybusy: the reason is empty, 0 or 200 to 250 (`cec_07_1211`).
pub(super) fn busy_request(route: &Route) -> Result<BusyRequest, Refused> {
    let reason = match route.parameter("reason") {
        None => 0,
        Some(text) => text.parse().map_err(|_| bad_parameter())?,
    };
    refuse_unless(reason == 0 || (200..=250).contains(&reason), Retcode::BadParameter)?;
    Ok(BusyRequest { reason, prolong: prolong(route)? })
}

/// The parameters of rest: the time is 1 to 86399 seconds, the cause 0 to 255 (`cec_07_1213`).
pub(super) fn rest_request(route: &Route, options: &Options) -> Result<RestRequest, Refused> {
    let [time, cause] = route.tail.as_slice() else {
        return Err(bad_parameter());
    };
    let seconds: u32 = time.parse().map_err(|_| bad_parameter())?;
    refuse_unless((1..86_400).contains(&seconds), Retcode::BadParameter)?;
    let cause: u8 = cause.parse().map_err(|_| bad_parameter())?;
    Ok(RestRequest {
        time: options.real(Duration::from_secs(seconds.into())),
        cause: cause.into(),
        prolong: prolong(route)?,
    })
}

/// The parameters of forcerest, after the agent's id: the time is 1 to 86399 seconds, the reason 1 to 255
/// (guide copy).
pub(super) fn forced_rest(route: &Route, options: &Options) -> Result<RestRequest, Refused> {
    let [_agent, time, cause] = route.tail.as_slice() else {
        return Err(bad_parameter());
    };
    let seconds: u32 = time.parse().map_err(|_| bad_parameter())?;
    refuse_unless((1..86_400).contains(&seconds), Retcode::BadParameter)?;
    let cause: u8 = cause.parse().map_err(|_| bad_parameter())?;
    refuse_unless(cause > 0, Retcode::BadParameter)?;
    let time = options.real(Duration::from_secs(seconds.into()));
    Ok(RestRequest { time, cause: cause.into(), prolong: false })
}

/// A flag in the path: `true`, or other text of 1 to 5 characters for false (`cec_07_1218`).
pub(super) fn path_flag(route: &Route, options: &Options) -> Result<bool, Refused> {
    let text = route.tail.first().map(String::as_str).unwrap_or_default();
    refuse_unless((1..=5).contains(&text.chars().count()), Retcode::BadParameter)?;
    Ok(is_true(text, options))
}

/// The parameter of settalkright: flag 1 takes inbound calls, flag 0 does not (`cec_07_0356`).
pub(super) fn talk_right(route: &Route) -> Result<bool, Refused> {
    match route.parameter("flag") {
        Some("1") => Ok(true),
        Some("0") => Ok(false),
        _ => Err(bad_parameter()),
    }
}

/// The parameter of setcustomstate: 0 to 65534, mandatory (`cec_07_1228`).
pub(super) fn custom_state(route: &Route) -> Result<u16, Refused> {
    let state = route.parameter("customstate").and_then(|text| text.parse().ok());
    state.filter(|state| *state < u16::MAX).ok_or_else(bad_parameter)
}

fn is_true(text: &str, options: &Options) -> bool {
    text == "true" || (options.any_case_true && text.eq_ignore_ascii_case("true"))
}

fn prolong(route: &Route) -> Result<bool, Refused> {
    match route.parameter("prolong") {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(bad_parameter()),
    }
}

pub(super) fn bad_parameter() -> Refused {
    Refused(Retcode::BadParameter.into())
}

pub(super) fn refuse_unless(good: bool, code: impl Into<String>) -> Result<(), Refused> {
    if good { Ok(()) } else { Err(Refused(code.into())) }
}

/// The parameters of resetskill (`cec_07_1209`): autoflag is `true`, and anything else is false;
/// skillid is ids joined by `;`, at most 4000 characters; phonelinkage is 0 or 1.
pub(super) fn skills_asked(route: &Route, options: &Options) -> Result<SkillsAsked, Refused> {
    let text = route.parameter("skillid").unwrap_or_default();
    refuse_unless(text.chars().count() <= 4000, Retcode::BadParameter)?;
    let ids = text.split(';').filter(|id| !id.is_empty()).map(str::parse);
    let ids = ids.collect::<Result<_, _>>().map_err(|_| bad_parameter())?;
    let linkage = route.parameter("phonelinkage");
    refuse_unless(matches!(linkage, None | Some("0" | "1")), Retcode::BadParameter)?;
    let all = route.tail.first().is_some_and(|flag| is_true(flag, options));
    Ok(if all { SkillsAsked::All } else { SkillsAsked::These(ids) })
}
