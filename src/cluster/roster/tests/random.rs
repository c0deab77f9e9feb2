//! Random tests: replicas come and go, claim and hand over, and the store is slow, late or
//! forgetful.

use std::{collections::BTreeMap, thread, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::sleep;

use super::world::{FEW, LATE_MAX_MS, Running, agents, kill, open, start_with, world_of};
use crate::{config::WhenAway, id::AgentId, tenant::PollOwnership as _};

/// How many runs there are with each setting of `store.when_away`.
const RUNS: u64 = 5_000;
const REPLICAS: u64 = 3;
/// How long agents may be without a poller: the leases of a dead replica have to end, another replica
/// takes a turn every quarter of a lease, and its requests take a while.
pub(super) const UNPOLLED_MAX: Duration = Duration::from_secs(16 + 4 + 4);

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Cut(u64),
    Heal(u64),
    /// Dies, and another process takes its place.
    Restart(u64),
    /// Hands over all agents, and another process takes its place.
    Leave(u64),
    /// An agent is signed in at this replica.
    Claim(u64, usize),
    Weather(bool),
    Pass(Duration),
}

impl Step {
    fn random(rng: &mut StdRng) -> Self {
        let replica = rng.random_range(1..=REPLICAS);
        match rng.random_range(0..14) {
            0 => Self::Cut(replica),
            1 => Self::Heal(replica),
            2 => Self::Restart(replica),
            3 => Self::Leave(replica),
            4..8 => Self::Claim(replica, rng.random_range(0..FEW)),
            8 => Self::Weather(true),
            9 => Self::Weather(false),
            _ => Self::Pass(Duration::from_millis(rng.random_range(1..8_000))),
        }
    }
}

/// Signs an agent in here, as a call does.
fn claim(replica: &Running, agent: AgentId) {
    let (roster, poller) = (replica.roster.clone(), replica.poller.clone());
    let claiming = async move {
        roster.claim(agent, &*poller).await;
    };
    replica.also(claiming);
}

async fn run(seed: u64, when_away: WhenAway) -> Result<(), String> {
    let start = |id, world: &_| start_with(id, world, when_away);
    let mut rng = StdRng::seed_from_u64(seed);
    let world = world_of(FEW, seed);
    let mut replicas: BTreeMap<u64, Running> =
        (1..=REPLICAS).map(|id| (id, start(id, &world))).collect();
    let mut next_id = REPLICAS + 1;
    for _ in 0..rng.random_range(3..11) {
        let step = Step::random(&mut rng);
        let is_quiet = matches!(step, Step::Claim(..) | Step::Pass(_));
        {
            let mut world = open(&world);
            world.check_kept();
            world.note(format!("{step:?}"), !is_quiet);
        }
        match step {
            Step::Cut(place) => drop(open(&world).cut.insert(replicas[&place].me)),
            Step::Heal(place) => drop(open(&world).cut.remove(&replicas[&place].me)),
            Step::Restart(place) | Step::Leave(place) => {
                let new = start(next_id, &world);
                next_id += 1;
                let old = replicas.insert(place, new).expect("there is one in each place");
                if matches!(step, Step::Leave(_)) {
                    old.leaves().await;
                }
                kill(&old);
            }
            Step::Claim(place, agent) => claim(&replicas[&place], agents()[agent]),
            Step::Weather(bad) => open(&world).bad_weather = bad,
            Step::Pass(time) => sleep(time).await,
        }
        sleep(Duration::from_millis(rng.random_range(0..400))).await;
    }
    {
        let mut world = open(&world);
        world.check_kept();
        world.cut.clear();
        world.bad_weather = false;
        world.note("all is well".into(), true);
    }
    sleep(Duration::from_millis(LATE_MAX_MS) + UNPOLLED_MAX).await;
    let world = open(&world);
    let polled_once = |agent: &AgentId| world.polling.get(agent).is_some_and(|p| p.len() == 1);
    let wrong = agents().into_iter().take(FEW).filter(|agent| !polled_once(agent));
    let wrong: Vec<_> = wrong.map(|agent| format!("{agent} is not polled once")).collect();
    match [&*world.wrong, &*wrong].concat() {
        wrong if wrong.is_empty() => Ok(()),
        wrong => Err(format!("seed {seed}: {wrong:#?} {:#?}", world.history)),
    }
}

/// Runs all seeds, and panics with the history of one that has gone wrong.
fn run_all(when_away: WhenAway) {
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let failed = thread::scope(|scope| {
        let runs = |first| {
            move || {
                let mut failed = (first..RUNS).step_by(threads).filter_map(|seed| {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_time()
                        .start_paused(true)
                        .build()
                        .unwrap();
                    runtime.block_on(run(seed, when_away)).err()
                });
                failed.next()
            }
        };
        let all: Vec<_> = (0..RUNS).take(threads).map(|first| scope.spawn(runs(first))).collect();
        all.into_iter().find_map(|thread| thread.join().unwrap())
    });
    if let Some(failed) = failed {
        panic!("{failed}");
    }
}

#[test]
fn whatever_happens_no_agent_has_two_pollers_or_none_for_long() {
    run_all(WhenAway::Stop);
}

#[test]
fn where_polls_go_on_no_agent_is_left_and_two_poll_only_while_the_store_fails_somebody() {
    run_all(WhenAway::Keep);
}
