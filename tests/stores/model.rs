//! Random interleavings of two replicas, with and without their Redis, against a small model.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use ccgateway_bridge::session::{EndOf, Session, SessionStore as _};
use ccgateway_test_support::RedisServer;
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::runtime::Runtime;

use crate::support::{Replica, agent, eventually};

/// What one of the replicas does, for one of a few agents.
#[derive(Clone, Copy, Debug)]
enum Step {
    Put,
    /// Renews the newest session that the replica knows, or the one it knew before that.
    Renew {
        late: bool,
    },
    Remove {
        late: bool,
    },
    SignOut {
        late: bool,
    },
    Load,
    /// Both renew at once.
    Race,
}

const AGENTS: u32 = 3;

fn step() -> impl Strategy<Value = (Step, bool, u32)> {
    let late = any::<bool>();
    let step = prop_oneof![
        3 => Just(Step::Put),
        4 => late.prop_map(|late| Step::Renew { late }),
        2 => any::<bool>().prop_map(|late| Step::Remove { late }),
        2 => any::<bool>().prop_map(|late| Step::SignOut { late }),
        2 => Just(Step::Load),
        2 => Just(Step::Race),
    ];
    (step, any::<bool>(), 0..AGENTS)
}

/// What has been seen of each agent.
#[derive(Default)]
struct Seen {
    /// The highest version that any store gave out.
    newest: HashMap<u32, u64>,
    /// By replica and agent: the highest version that its warm reads have shown.
    shown: HashMap<(bool, u32), u64>,
    /// By replica and agent: the sessions it has had.
    had: HashMap<(bool, u32), Vec<Arc<Session>>>,
    /// By agent, and by when they were made: the sessions that a replica which knew them has signed out. Whatever replaces
    /// the record of such an end may be older than a renewal that another replica has made meanwhile.
    signed_out: HashMap<u32, HashSet<u64>>,
    count: usize,
}

impl Seen {
    fn given(&mut self, right: bool, id: u32, session: &Arc<Session>) {
        let newest = self.newest.entry(id).or_default();
        *newest = session.version.max(*newest);
        self.had.entry((right, id)).or_default().push(session.clone());
    }

    /// A replica never shows an older version after a newer one.
    fn check(&mut self, right: bool, id: u32, replica: &Replica) {
        let Some(session) = replica.cached(id) else { return };
        let shown = self.shown.entry((right, id)).or_default();
        assert!(session.version >= *shown, "agent {id} went from {shown} to {}", session.version);
        *shown = session.version;
    }

    fn session(&self, right: bool, id: u32, late: bool) -> Option<Arc<Session>> {
        let had = self.had.get(&(right, id))?;
        if late { had.iter().rev().nth(1).cloned() } else { had.last().cloned() }
    }

    fn guid(&mut self) -> String {
        self.count += 1;
        format!("guid-{}", self.count)
    }
}

async fn carry_out(replicas: [&Replica; 2], seen: &mut Seen, (step, right, at): (Step, bool, u32)) {
    let id = 1001 + at;
    let replica = replicas[usize::from(right)];
    if matches!(step, Step::Put | Step::Remove { .. }) {
        seen.signed_out.remove(&id);
    }
    match step {
        Step::Put => {
            let before = seen.newest.get(&id).copied().unwrap_or_default();
            let known = replica.cached(id).map_or(0, |session| session.version);
            let guid = seen.guid();
            let put = replica.put(id, &guid).await;
            assert!(put.version > known && (put.version > before || known < before));
            seen.given(right, id, &put);
        }
        Step::Renew { late } => {
            let Some(old) = seen.session(right, id, late) else { return };
            let guid = seen.guid();
            if let Some(renewed) = replica.renew(&old, id, &guid).await {
                assert!(renewed.version > old.version);
                seen.given(right, id, &renewed);
            }
        }
        Step::Remove { late } => {
            let Some(old) = seen.session(right, id, late) else { return };
            replica.remove(id, old.version).await;
            let left = replica.cached(id);
            assert!(left.is_none_or(|left| left.version > old.version));
        }
        Step::SignOut { late } => {
            let Some(old) = seen.session(right, id, late) else { return };
            if replica.cached(id).is_some_and(|known| known.made == old.made) {
                seen.signed_out.entry(id).or_default().insert(old.made);
            }
            replica.store.sign_out(agent(id), &old, EndOf::Session).await.expect("ended");
            let left = replica.cached(id);
            assert!(left.is_none_or(|left| left.made != old.made), "agent {id} was signed out");
        }
        Step::Load => {
            if let Ok(Some(loaded)) = replica.store.load(agent(id)).await {
                seen.given(right, id, &loaded);
            }
        }
        Step::Race => {
            let [left, right] = replicas;
            let (Some(a), Some(b)) = (left.cached(id), right.cached(id)) else { return };
            let guids = (seen.guid(), seen.guid());
            let (x, y) = tokio::join!(left.renew(&a, id, &guids.0), right.renew(&b, id, &guids.1));
            for (side, renewed) in [(false, x), (true, y)] {
                if let Some(renewed) = renewed {
                    seen.given(side, id, &renewed);
                }
            }
        }
    }
    for (side, replica) in [(false, replicas[0]), (true, replicas[1])] {
        for id in (0..AGENTS).map(|at| 1001 + at) {
            seen.check(side, id, replica);
        }
    }
}

/// Both replicas and Redis end with the same, and it is the newest that there was.
async fn converge(server: &RedisServer, replicas: [&Replica; 2], seen: &Seen) {
    let [left, right] = replicas;
    let version = |replica: &Replica, id| replica.cached(id).map(|session| session.version);
    eventually("nothing to be left", || left.store.unsynced() + right.store.unsynced() == 0).await;
    let third = Replica::of(server);
    for id in (0..AGENTS).map(|at| 1001 + at) {
        let agreed = async {
            loop {
                // Who has never heard of an agent asks.
                for replica in [left, right, &third] {
                    replica.asks(id).await;
                }
                let [left, right, third] = [left, right, &third].map(|r| version(r, id));
                if left == right && right == third {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let limit = Duration::from_secs(20);
        let in_time = tokio::time::timeout(limit, agreed).await;
        assert!(in_time.is_ok(), "agent {id}: the replicas and Redis do not come together");
        if let Some(left) = left.cached(id) {
            assert_eq!(Some(&left.version), seen.newest.get(&id), "agent {id}: not the newest");
            let signed_out = seen.signed_out.get(&id);
            let was_signed_out = signed_out.is_some_and(|made| made.contains(&left.made));
            assert!(!was_signed_out, "agent {id} was signed out");
        }
    }
}

#[test]
fn replicas_never_go_back_and_always_come_together() {
    let runtime = Runtime::new().expect("a runtime");
    let server = runtime.block_on(RedisServer::start());
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        max_shrink_iters: 100,
        ..ProptestConfig::default()
    });
    let steps = proptest::collection::vec(step(), 1..60);
    let outcome = runner.run(&steps, |steps| {
        runtime.block_on(async {
            empty(&server).await;
            let (left, right) = (Replica::of(&server), Replica::of(&server));
            let mut seen = Seen::default();
            for step in steps {
                carry_out([&left, &right], &mut seen, step).await;
            }
            converge(&server, [&left, &right], &seen).await;
        });
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn replicas_come_together_after_redis_was_away() {
    let runtime = Runtime::new().expect("a runtime");
    // The runner's closure may not change anything.
    let server = RefCell::new(runtime.block_on(RedisServer::start()));
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 8,
        failure_persistence: None,
        max_shrink_iters: 20,
        ..ProptestConfig::default()
    });
    let some = || proptest::collection::vec(step(), 1..20);
    let outcome = runner.run(&(some(), some(), some()), |(before, during, after)| {
        let mut server = server.borrow_mut();
        runtime.block_on(async {
            empty(&server).await;
            let (left, right) = (Replica::of(&server), Replica::of(&server));
            let mut seen = Seen::default();
            for step in before {
                carry_out([&left, &right], &mut seen, step).await;
            }
            server.kill().await;
            for step in during {
                carry_out([&left, &right], &mut seen, step).await;
            }
            server.restart().await;
            for step in after {
                carry_out([&left, &right], &mut seen, step).await;
            }
            converge(&server, [&left, &right], &seen).await;
        });
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

async fn empty(server: &RedisServer) {
    let mut connection = server.connection().await;
    let _: () = ::redis::cmd("FLUSHALL").query_async(&mut connection).await.expect("emptied");
}
