//! `[tenants.<id>.keep]`.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::Tenant;
use crate::{
    config::{
        error::Problem,
        reader::{Section, section_of},
        scalar::{HOUR, MILLISECOND, MINUTE, SECOND},
    },
    id::TenantId,
};

/// How the sessions that the bridge made are kept alive. The bridge polls for their events, since the
/// gateway signs an agent out if nobody polls for two minutes (cec_07_1202).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Whether sessions are kept alive. `keep.enabled`.
    pub enabled: bool,
    /// Whose events a poll is for. `keep.poll`.
    pub poll: PollFor,
    /// The shortest pause between two polls; 200 ms as documented (cec_07_1274).
    /// `keep.pause_min`.
    pub pause_min: Duration,
    /// The longest pause between two polls; 500 ms as documented. `keep.pause_max`.
    pub pause_max: Duration,
    /// How often the Guid is renewed by updateGuid (cec_07_1225), where Guids change and no poll of the agent's own renews
    /// it. With polls for all agents, sessions without such Guids are looked at as often. `keep.guid_interval`.
    pub guid_interval: Duration,
    /// How long the bridge tries to sign an agent in again after its session is lost.
    /// `keep.recovery`.
    pub recovery: Duration,
    /// The most automatic sign-ins per second; a `SignIn` call is not automatic.
    /// `keep.sign_ins_per_second`.
    pub sign_ins_per_second: u32,
    /// How often the bridge takes an agent back from another client that signs it in. After that it
    /// leaves the agent alone until a caller asks for it. `keep.take_backs`.
    pub take_backs: u32,
    /// How long the bridge waits before it takes an agent back for the second time. Each further wait
    /// is twice as long, up to twelve times this. `keep.take_back_pause`.
    pub take_back_pause: Duration,
    /// How long a rejected password is not tried again, since platforms lock accounts after several
    /// wrong ones. `keep.rejected_for`.
    pub rejected_for: Duration,
}

/// Whose events a poll is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollFor {
    /// One agent's: each kept session has a poll of its own (cec_07_1274).
    Each,
    /// Those of all agents of a node of the gateway, which has to be configured for that (client).
    All,
}

/// `is_shared`: replicas share the sessions.
pub(super) fn keep(section: &Section<'_>, is_shared: bool) -> Keep {
    let polls = [("each", PollFor::Each), ("all", PollFor::All)];
    let keep = Keep {
        enabled: section.truth("enabled", true),
        poll: section.choice("poll", &polls).unwrap_or(PollFor::Each),
        pause_min: section.duration("pause_min", 200 * MILLISECOND, MILLISECOND..=MINUTE),
        pause_max: section.duration("pause_max", 500 * MILLISECOND, MILLISECOND..=MINUTE),
        guid_interval: section.duration("guid_interval", 45 * SECOND, MILLISECOND..=HOUR),
        recovery: section.duration("recovery", 10 * MINUTE, SECOND..=24 * HOUR),
        sign_ins_per_second: section.whole("sign_ins_per_second", 50, 1..=10_000),
        take_backs: section.whole("take_backs", 6, 1..=100),
        take_back_pause: section.duration("take_back_pause", 5 * SECOND, MILLISECOND..=HOUR),
        rejected_for: section.duration("rejected_for", MINUTE, SECOND..=24 * HOUR),
    };
    if keep.pause_min > keep.pause_max {
        section.contradiction(
            &["pause_min", "pause_max"],
            Problem::new("pause_min is above pause_max", "give the shorter pause as pause_min"),
        );
    }
    if keep.poll == PollFor::All && is_shared {
        section.contradiction(
            &["poll"],
            Problem::new(
                "is \"all\", and store.urls is for several replicas, each of which polls for some of \
                 the agents: the gateway would give each event to one of them, whoever has its agent",
                "remove it, or run one process, with store.file in the place of store.urls",
            ),
        );
    }
    keep
}

/// A warning if a tenant's polls are for all agents of a gateway at which another tenant has agents, too.
pub(in crate::config) fn warning(tenants: &BTreeMap<TenantId, Tenant>) -> Option<String> {
    let mut known: HashMap<&str, (&TenantId, bool)> = HashMap::new();
    for (id, tenant) in tenants {
        let is_for_all = tenant.keep.enabled && tenant.keep.poll == PollFor::All;
        for host in tenant.base_urls.iter().filter_map(|url| Some(url.authority()?.as_str())) {
            let (first, first_is) = *known.entry(host).or_insert((id, is_for_all));
            if first == id || !(is_for_all || first_is) {
                continue;
            }
            let (one, other) = if is_for_all { (id, first) } else { (first, id) };
            let (one, other) = (section_of(one), section_of(other));
            return Some(format!(
                "{one}.keep.poll is \"all\", and {other} has the same gateway, {host}: the polls of \
                 one tenant may take the events of the other's agents, which are then lost; give \
                 \"each\", unless the gateway keeps the two apart"
            ));
        }
    }
    None
}
