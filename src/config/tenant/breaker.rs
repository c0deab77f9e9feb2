//! `[tenants.<id>.breaker]`.

use std::time::Duration;

use crate::config::{
    error::Problem,
    reader::Section,
    scalar::{MILLISECOND, MINUTE, SECOND},
};

/// When an address of the gateway is not asked for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// How many requests in a row have to fail; 0 if every address is always asked. `breaker.failures`.
    pub failures: u32,
    /// The time until the first probe, and between probes that are answered. `breaker.pause`.
    pub pause: Duration,
    /// The longest time between two probes. `breaker.pause_max`.
    pub pause_max: Duration,
}

pub(super) fn breaker(section: &Section<'_>) -> Breaker {
    let breaker = Breaker {
        failures: section.whole("failures", 5, 0..=1000),
        pause: section.duration("pause", SECOND, MILLISECOND..=MINUTE),
        pause_max: section.duration("pause_max", 10 * SECOND, MILLISECOND..=10 * MINUTE),
    };
    if breaker.pause > breaker.pause_max {
        section.contradiction(
            &["pause", "pause_max"],
            Problem::new("pause is above pause_max", "give the shorter pause as pause"),
        );
    }
    breaker
}
