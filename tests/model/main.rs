//! Random sequences of calls: the bridge, with the simulated gateway behind it, and a small model of
//! an agent agree on every step of them.
//!
//! The sequences are the same in every run. `PROPTEST_CASES` and `PROPTEST_RNG_SEED` make others; a
//! sequence that fails is shrunk and printed so that it can be added to [`ONCE_WRONG`].

mod agent;
mod steps;

use std::{
    collections::HashSet,
    env, iter,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use ccgateway_sim::{AuthMode, Options};
use ccgateway_test_support::{Setup, TestBridge, changes::Change};
use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed, TestError, TestRunner},
};
use tokio::runtime::Handle;

use agent::{Agent, Doing};
use steps::{InitialState, Kind, Step};

/// Sequences, over all threads.
const SEQUENCES: u32 = 10_000;
/// Enough to keep the runtime busy.
const THREADS: u32 = 16;

/// Sequences that were wrong once, or look as if they could be.
const ONCE_WRONG: &[&[Step]] = &[
    &[Step::GetState],
    &[
        Step::SignIn { initial: InitialState::Idle, auto_idle: Some(false), force: false },
        Step::StartCall,
        Step::Change(Change::SetBusy { reason: None, prolong: None }),
        Step::EndCall,
        Step::Change(Change::SetIdle),
        Step::GetState,
    ],
];

/// A bridge that polls nobody, in front of a gateway whose Guids outlive the test.
struct Bench {
    bridge: TestBridge,
    /// The next sequence's agent: none has known another sequence.
    next: AtomicU32,
    /// What has been tried in which state.
    tried: Mutex<HashSet<(Kind, Doing)>>,
}

impl Bench {
    async fn start() -> Self {
        let gateway = Options {
            plaintext: true,
            auth_mode: AuthMode::Static,
            idle_sign_out: None,
            journal: 1,
            ..<_>::default()
        };
        let tenant = "agent_ids = \"1-59999\"\nlimits.sessions = 60000\n".into();
        let bridge = TestBridge::with(Setup { gateway, tenant, ..<_>::default() }).await;
        Self { bridge, next: AtomicU32::new(1), tried: Mutex::default() }
    }

    /// Takes the steps with an agent who has never been signed in.
    async fn agrees(&self, steps: &[Step]) -> Result<(), TestCaseError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut agent = Agent::new();
        for (place, step) in steps.iter().enumerate() {
            self.tried().insert((step.kind(), agent.doing()));
            let expected = agent.expect(step);
            let answered = step.take(&self.bridge, id).await;
            prop_assert_eq!(answered, expected, "step {}, {:?}", place + 1, step);
            // A call for every step would take half as long again.
            let held = self.bridge.gateway.agent(id).map_or(2, |agent| agent.state.code());
            prop_assert_eq!(held, agent.code(), "the state after step {}, {:?}", place + 1, step);
        }
        let told = Step::GetState.take(&self.bridge, id).await;
        prop_assert_eq!(told, agent.state(), "the state at the end");
        Ok(())
    }

    fn tried(&self) -> MutexGuard<'_, HashSet<(Kind, Doing)>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequences_that_were_wrong_once_agree_with_the_model() {
    let bench = Bench::start().await;
    for steps in ONCE_WRONG {
        bench.agrees(steps).await.unwrap_or_else(|error| panic!("{steps:?}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_sequences_agree_with_the_model() {
    let bench = Bench::start().await;
    let runtime = Handle::current();
    let share = &|thread| {
        let agrees = |steps: Vec<Step>| runtime.block_on(bench.agrees(&steps));
        TestRunner::new(config(thread)).run(&steps::sequence(), agrees)
    };
    let ends: Vec<_> = tokio::task::block_in_place(|| {
        thread::scope(|scope| {
            let threads = (0..THREADS).map(|thread| scope.spawn(move || share(thread)));
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        })
    });
    match ends.into_iter().find_map(Result::err) {
        Some(TestError::Fail(why, steps)) => panic!("{why}\nthe shortest: {steps:#?}"),
        Some(TestError::Abort(why)) => panic!("{why}"),
        None => {}
    }
    if env::var_os("PROPTEST_CASES").is_none() {
        let tried = bench.tried();
        let all = Kind::ALL.iter().flat_map(|&kind| iter::repeat(kind).zip(Doing::ALL));
        let untried: Vec<_> = all.filter(|pair| !tried.contains(pair)).collect();
        assert!(untried.is_empty(), "the sequences never come to {untried:?}");
    }
}

/// A thread's share of the sequences, by a seed of its own.
fn config(thread: u32) -> Config {
    let defaults = Config::default();
    let cases = if env::var_os("PROPTEST_CASES").is_some() { defaults.cases } else { SEQUENCES };
    let seed = match defaults.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => 0,
    };
    Config {
        cases: cases.div_ceil(THREADS),
        rng_seed: RngSeed::Fixed(seed.wrapping_add(thread.into())),
        // Sequences that fail are added to the list above.
        failure_persistence: None,
        ..defaults
    }
}
