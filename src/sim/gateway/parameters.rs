//! Parameters of requests, checked.

use std::time::Duration;

use tokio::time::Instant;

use crate::sim::{
    agent::Refused,
    conduct::{BusyRequest, RestRequest},
    interface::Route,
    options::Options,
    settings::SkillsAsked,
};

/// Reason empty, 0 or 200 to 250 (`cec_07_1211`).
pub(super) fn busy_request(route: &Route) -> Result<BusyRequest, Refused> {
    let reason = match route.parameter("reason") {
        None => 0,
        Some(text) => text.parse().map_err(|_| bad_parameter())?,
    };
    refuse_unless(reason == 0 || (200..=250).contains(&reason), "000-002")?;
    Ok(BusyRequest { reason, prolong: prolong(route)? })
}

/// Time 1 to 86399 seconds, cause 0 to 255 (`cec_07_1213`).
pub(super) fn rest_request(route: &Route, options: &Options) -> Result<RestRequest, Refused> {
    let [time, cause] = route.tail.as_slice() else {
        return Err(bad_parameter());
    };
    let seconds: u32 = time.parse().map_err(|_| bad_parameter())?;
    refuse_unless((1..86_400).contains(&seconds), "000-002")?;
    let cause: u8 = cause.parse().map_err(|_| bad_parameter())?;
    Ok(RestRequest {
        ends: Instant::now() + options.real(Duration::from_secs(seconds.into())),
        cause: cause.into(),
        prolong: prolong(route)?,
    })
}

fn prolong(route: &Route) -> Result<bool, Refused> {
    match route.parameter("prolong") {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(bad_parameter()),
    }
}

pub(super) fn bad_parameter() -> Refused {
    Refused("000-002".into())
}

pub(super) fn refuse_unless(good: bool, code: &str) -> Result<(), Refused> {
    if good { Ok(()) } else { Err(Refused(code.into())) }
}

/// Autoflag `true` or anything else for false; skillid ids joined by `;`, at most 4000 characters;
/// phonelinkage 0 or 1 (`cec_07_1209`).
pub(super) fn skills_asked(route: &Route) -> Result<SkillsAsked, Refused> {
    let text = route.parameter("skillid").unwrap_or_default();
    refuse_unless(text.chars().count() <= 4000, "000-002")?;
    let ids = text.split(';').filter(|id| !id.is_empty()).map(str::parse);
    let ids = ids.collect::<Result<_, _>>().map_err(|_| bad_parameter())?;
    let linkage = route.parameter("phonelinkage");
    refuse_unless(matches!(linkage, None | Some("0" | "1")), "000-002")?;
    let all = route.tail.first().is_some_and(|flag| flag == "true");
    Ok(if all { SkillsAsked::All } else { SkillsAsked::These(ids) })
}
