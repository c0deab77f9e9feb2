//! `demo --scenario`: short stories of what the bridge is for. Each says what happens, and ends by itself.

mod failover;
mod fight;
mod morning;
mod stage;

use std::{ops::RangeInclusive, time::Duration};

use tokio::time::timeout;

use self::stage::Stage;
use super::{DemoArgs, Failure, StopSignals, say};
use crate::command::text::wrapped;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Scenario {
    /// All agents begin to work at the same moment
    Morning,
    /// One of a gateway's two addresses fails, and comes back
    Failover,
    /// Another client takes an agent over, again and again
    Fight,
}

/// However slow the machine is.
const LONGEST: Duration = Duration::from_secs(90);

/// Plays the scenario to its end, or until a signal comes.
pub(super) async fn run(
    scenario: Scenario,
    args: &DemoArgs,
    signals: &mut StopSignals,
) -> Result<(), Failure> {
    say(wrapped("", scenario.story(), 0));
    let stage = Box::pin(Stage::set(scenario, args)).await?;
    let playing = async {
        match scenario {
            Scenario::Morning => morning::play(&stage).await,
            Scenario::Failover => failover::play(&stage).await,
            Scenario::Fight => fight::play(&stage).await,
        }
    };
    let played = tokio::select! {
        played = timeout(LONGEST, playing) => {
            played.unwrap_or_else(|_| Err(format!("it has not ended within {LONGEST:?}").into()))
        }
        _signal = signals.next() => Ok(()),
    };
    stage.clear().await;
    played
}

impl Scenario {
    /// What is about to happen.
    fn story(self) -> &'static str {
        match self {
            Self::Morning => {
                "Sixty agents begin to work at the same moment, and none of them is signed in. Their gateway is \
                 to get 20 sign-ins a second (keep.sign_ins_per_second), and no caller waits for longer than \
                 a second."
            }
            Self::Failover => {
                "A gateway has two sites, and neither knows the other's sessions. Callers make agents busy, ten \
                 calls a second. The first site dies, and comes back empty."
            }
            Self::Fight => {
                "Another client signs the bridge's agent in by force, each time that the bridge has taken the \
                 agent back. Two programs that do so would go on for ever; the bridge may take it back three \
                 times here (keep.take_backs)."
            }
        }
    }

    /// How many sites the gateway has.
    fn sites(self) -> usize {
        if self == Self::Failover { 2 } else { 1 }
    }

    fn agents(self) -> RangeInclusive<u32> {
        match self {
            Self::Morning => 1001..=1060,
            Self::Failover => 1001..=1005,
            Self::Fight => 1001..=1001,
        }
    }

    /// Keys of the tenant that are not the default ones, for a story that is soon over.
    fn keys(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Morning => &[("keep.sign_ins_per_second", "20")],
            Self::Failover => &[("breaker.pause", "200ms"), ("breaker.pause_max", "1s")],
            Self::Fight => &[
                ("keep.take_backs", "3"),
                ("keep.take_back_pause", "1s"),
                ("keep.pause_min", "50ms"),
                ("keep.pause_max", "100ms"),
            ],
        }
    }
}
