//! A site of the gateway dies, and comes back.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::Duration,
};

use ccgateway_sim::{Entry, Interface, Simulator};
use tokio::time::{Instant, interval};
use tonic::Request;

use super::{
    super::Failure,
    stage::{Stage, busy, is_accepted, reason},
};

const PATIENCE: Duration = Duration::from_secs(2);
const CALL_EVERY: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
/// How long both sites are good, and how long the story waits at the most until all agents have moved.
const GOOD: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(30);

type Agents = BTreeSet<u32>;

/// What callers were told in the last second.
#[derive(Default)]
struct Told {
    accepted: usize,
    refused: BTreeMap<String, usize>,
}

pub(super) async fn play(stage: &Stage) -> Result<(), Failure> {
    let first = stage.sites.first().ok_or("there is no site")?;
    let all = stage.agents.clone().count();
    let has_all = |site: Option<&Agents>| site.is_some_and(|agents| agents.len() == all);
    stage.tell("both sites are good");
    call(stage, GOOD, |_| false).await;
    stage.tell("the first site dies");
    first.stop().await;
    call(stage, LONGEST, |sites| has_all(sites.last())).await;
    first.restart(true).await?;
    stage.tell("the first site is back, and knows nobody: agents move back one by one");
    call(stage, LONGEST, |sites| has_all(sites.first())).await;
    stage.tell("the end");
    Ok(())
}

/// Calls for one agent after the other, and tells each second how that went; until the time is over, or `is_over` for
/// the agents whom each of the sites has made busy since then.
async fn call(stage: &Stage, time: Duration, is_over: impl Fn(&[Agents]) -> bool) {
    let mut states = stage.states();
    let mut agents = stage.agents.clone().cycle();
    let (mut told, mut made_busy) = (Told::default(), vec![Agents::new(); stage.sites.len()]);
    let mut ticks = interval(CALL_EVERY);
    let begun = Instant::now();
    let mut tell_at = begun + SECOND;
    while begun.elapsed() < time && !is_over(&made_busy) {
        ticks.tick().await;
        let Some(agent) = agents.next() else { return };
        let mut request = Request::new(busy(agent));
        request.set_timeout(PATIENCE);
        match states.set_busy(request).await {
            Ok(_accepted) => told.accepted += 1,
            Err(refusal) => *told.refused.entry(reason(&refusal)).or_default() += 1,
        }
        if Instant::now() >= tell_at {
            tell(stage, &mem::take(&mut told), &mut made_busy);
            tell_at += SECOND;
        }
    }
    tell(stage, &told, &mut made_busy);
}

/// Tells what has happened since it did so last, and adds the agents whom each site has made busy.
fn tell(stage: &Stage, told: &Told, made_busy: &mut [Agents]) {
    let mut counts = Vec::new();
    for (site, made_busy) in stage.sites.iter().zip(made_busy) {
        let agents = newly_busy(site);
        counts.push(agents.len().to_string());
        made_busy.extend(agents);
    }
    let refused = told.refused.iter().map(|(reason, count)| format!(", {count} {reason}"));
    let refused = refused.collect::<Vec<_>>().concat();
    let (accepted, counts) = (told.accepted, counts.join(" + "));
    stage.tell(format_args!("{accepted} OK ({counts} at the two sites){refused}"));
}

/// The agents whom this site has made busy since it was asked last.
fn newly_busy(site: &Simulator) -> Vec<u32> {
    let journal = site.journal();
    site.clear_journal();
    let is_it = |entry: &Entry| entry.interface == Some(Interface::SayBusy) && is_accepted(entry);
    journal.into_iter().filter(is_it).filter_map(|entry| entry.agent).collect()
}
