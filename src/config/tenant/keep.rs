//! `[tenants.<id>.keep]`.

use std::time::Duration;

use crate::config::{
    error::Problem,
    reader::Section,
    scalar::{HOUR, MILLISECOND, MINUTE, SECOND},
};

/// How the sessions that the bridge made are kept alive. The bridge polls for their events, since the
/// gateway signs an agent out if nobody polls for two minutes (cec_07_1202).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Whether sessions are kept alive. `keep.enabled`.
    pub enabled: bool,
    /// The shortest pause between two polls; 200 ms as documented (cec_07_1274).
    /// `keep.pause_min`.
    pub pause_min: Duration,
    /// The longest pause between two polls; 500 ms as documented. `keep.pause_max`.
    pub pause_max: Duration,
    /// How often the Guid is renewed by updateGuid (cec_07_1225), if the gateway allows no polls and
    /// changes its Guids. `keep.guid_interval`.
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

pub(super) fn keep(section: &Section<'_>) -> Keep {
    let keep = Keep {
        enabled: section.truth("enabled", true),
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
    keep
}
