//! A Redis that answers, but refuses requests.

use ccgateway_bridge::{
    cluster::{LeaseRequest, Leases as _, redis::LinkState},
    config::{Sentinel, Topology},
    session::{SessionStore as _, StoreError, StoreState},
};
use ccgateway_test_support::{RedisServer, within};

use crate::{
    access::{acting_as, commands},
    cluster::Cluster,
    fake::Fake,
    support::{Replica, agent, all_listen, eventually, made, redis, tenant},
    topologies::{ask, with},
};

async fn set(server: &RedisServer, key: &str, value: &str) {
    let _: () = ask(server, &["CONFIG", "SET", key, value]).await;
}

/// The state of a link, with Redis' words if it refuses something.
fn told(replica: &Replica) -> (&'static str, String) {
    let state = replica.shared.link().state();
    let words = match &state {
        LinkState::Refusing(refusal) => refusal.to_string(),
        LinkState::Down(error) => error.to_string(),
        LinkState::Unused | LinkState::Up => String::new(),
    };
    (StoreState::from(state).as_str(), words)
}

#[tokio::test]
async fn every_error_of_redis_is_an_outage_that_is_reported() {
    for (answer, state, words, looks_elsewhere) in [
        ("-OOM command not allowed", "refuses_writes", "OOM command not allowed", false),
        ("-MISCONF Errors writing", "refuses_writes", "MISCONF Errors writing", false),
        ("-NOREPLICAS Not enough", "refuses_writes", "NOREPLICAS Not enough", true),
        ("-READONLY You can't write", "refuses_writes", "READONLY You can't write", true),
        ("-MASTERDOWN Link is down", "refuses_writes", "MASTERDOWN Link is down", true),
        ("-LOADING Redis is loading", "refuses_writes", "LOADING Redis is loading", true),
        ("-CLUSTERDOWN Hash slot", "refuses_writes", "CLUSTERDOWN Hash slot", true),
        ("-TRYAGAIN Multiple keys", "refuses_writes", "TRYAGAIN Multiple keys", true),
        ("-MOVED 1 10.0.0.1:6379", "refuses_writes", "MOVED 1 10.0.0.1:6379", true),
        ("-MOVED 1 ?:6379", "refuses_writes", "MOVED 1 ?:6379", true),
        ("-ASK 1 10.0.0.1:6379", "refuses_writes", "ASK 1 10.0.0.1:6379", true),
        ("-NOAUTH Authentication required.", "refuses_writes", "NOAUTH Auth", true),
        ("-WRONGPASS invalid", "refuses_writes", "WRONGPASS invalid", true),
        ("-NOPERM this user has no", "refuses_writes", "NOPERM this user has no", false),
        ("-BUSY Redis is busy", "refuses_writes", "BUSY Redis is busy", false),
        ("-WRONGTYPE Operation", "refuses_writes", "WRONGTYPE Operation", false),
        ("-CROSSSLOT Keys", "refuses_writes", "CROSSSLOT Keys", false),
        ("-NOSCRIPT No matching", "refuses_writes", "NOSCRIPT", false),
        ("-EXECABORT c4n4ry", "refuses_writes", "EXECABORT", false),
        ("-ERR unknown command, with args 'c4n4ry'", "refuses_writes", "ERR", false),
        ("-NEWCODE c4n4ry", "refuses_writes", "NEWCODE", false),
        ("c4n4ry, no Redis at all", "down", "", true),
        ("*1\r\n+c4n4ry of another type", "down", "", true),
    ] {
        let server = Fake::answering(format!("{answer}\r\n")).await;
        let replica = Replica::with(redis(Topology::Standalone, &[server.port]), &[1]);
        let put = replica.store.put(agent(1001), made("c4n4ry-guid")).await;
        put.expect("it is known here");
        assert_eq!(replica.store.unsynced(), 1, "{answer}");
        let (seen, shown) = told(&replica);
        assert_eq!(seen, state, "{answer}: {shown}");
        assert!(shown.starts_with(words) && !shown.contains("c4n4ry"), "{answer}: {shown}");
        assert_eq!(server.connections() > 1, looks_elsewhere, "{answer}");
        let read = replica.store.load(agent(1002)).await;
        let is_told = match &read {
            Err(StoreError::Refused(_)) => state == "refuses_writes",
            Err(StoreError::Unavailable(_)) => state == "down",
            _ => false,
        };
        assert!(is_told, "{answer}: {read:?}");
    }
}

/// Callers that only read are told so too.
#[tokio::test]
async fn a_redis_that_cannot_be_read_either_says_so() {
    let server = Fake::answering("-NOPERM this user has no permissions\r\n").await;
    let replica = Replica::with(redis(Topology::Standalone, &[server.port]), &[1]);
    replica.store.load(agent(1001)).await.expect_err("refused");
    assert_eq!(told(&replica).0, "refuses_reads");
}

#[tokio::test]
async fn a_redis_without_memory_is_told_everything_when_it_has_some_again() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;
    let first = left.put(1001, "first").await;
    right.hears(1001, Some("first")).await;
    set(&server, "maxmemory", "1").await;

    let second = left.renew(&first, 1001, "second").await.expect("renewed here");
    left.put(1002, "new").await;
    assert_eq!(left.store.unsynced(), 2);
    let words = "OOM command not allowed when used memory > 'maxmemory'.";
    assert_eq!(told(&left), ("refuses_writes", words.to_owned()));
    right.store.load(agent(1001)).await.expect("it can be read").expect("a session");
    // The state is about what was asked from here.
    assert_eq!(told(&right).0, "up");
    let unknown = left.store.load(agent(1003)).await;
    assert!(matches!(unknown, Err(StoreError::Refused(_))), "others may know it: {unknown:?}");

    set(&server, "maxmemory", "0").await;
    right.hears(1001, Some("second")).await;
    right.hears(1002, Some("new")).await;
    assert_eq!(right.cached(1001).unwrap().version, second.version);
    eventually("nothing to be left", || left.store.unsynced() == 0).await;
    eventually("it to be over", || told(&left).0 == "up").await;
    assert!(left.store.load(agent(1003)).await.expect("asked").is_none());
}

#[tokio::test]
async fn a_user_without_the_right_to_write_is_told_from_the_first_call_until_it_has_it() {
    let server = RedisServer::start().await;
    let missing = |command: &String| command != "+hset";
    let rights: Vec<String> = commands().into_iter().filter(missing).collect();
    let mut user = ::redis::cmd("ACL");
    user.arg("SETUSER").arg("bridge").arg(&["on", ">secret", "~test:*", "&test:*"]).arg(rights);
    let _: () = user.query_async(&mut server.connection().await).await.expect("a user");
    let replica = Replica::with(acting_as(&server, "bridge", "secret"), &[1]);
    replica.put(1001, "a").await;
    let (state, words) = told(&replica);
    assert_eq!(state, "refuses_writes");
    assert!(words.starts_with("NOPERM "), "{words}");

    let _: () = ask(&server, &["ACL", "SETUSER", "bridge", "+hset"]).await;
    eventually("Redis to be told", || replica.store.unsynced() == 0).await;
    eventually("it to be over", || told(&replica).0 == "up").await;
}

/// How many connections a sentinel has had, including the one of this question.
async fn visits(sentinel: &RedisServer) -> u64 {
    let stats: String = ask(sentinel, &["INFO", "stats"]).await;
    let count = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    count.expect("a count").parse().expect("a number")
}

#[tokio::test]
async fn if_a_master_has_too_few_replicas_the_sentinels_are_asked_again_with_pauses() {
    let (first, second) = (with(&[]).await, with(&[]).await);
    let sentinel =
        RedisServer::sentinel(&format!("sentinel monitor main 127.0.0.1 {} 1\n", first.port()))
            .await;
    let named = Sentinel { master: "main".into(), username: None, password: None };
    let replica = Replica::with(redis(Topology::Sentinel(named), &[sentinel.port()]), &[1]);
    replica.put(1001, "a").await;
    set(&first, "min-replicas-to-write", "1").await;
    let before = visits(&sentinel).await;
    for id in 2000..2400 {
        replica.put(id, "b").await;
    }
    assert_eq!(told(&replica).0, "refuses_writes");
    let asked = visits(&sentinel).await - before - 1;
    assert!((1..40).contains(&asked), "{asked} times for 400 refusals");

    // It is the other one by now.
    let other = second.port().to_string();
    let _: () = ask(&sentinel, &["SENTINEL", "REMOVE", "main"]).await;
    let _: () = ask(&sentinel, &["SENTINEL", "MONITOR", "main", "127.0.0.1", &other, "1"]).await;
    eventually("the new master to be told", || replica.store.unsynced() == 0).await;
    let found: u64 = ask(&second, &["EXISTS", "test:{acme}:session:2000"]).await;
    assert_eq!(found, 1);
}

#[tokio::test]
async fn a_redis_that_is_busy_with_a_script_is_told_and_waited_for() {
    let server = RedisServer::start().await;
    set(&server, "busy-reply-threshold", "10").await;
    let replica = Replica::of(&server);
    replica.put(1001, "a").await;
    let mut admin = server.connection().await;
    let mut endless = server.connection().await;
    let looping = tokio::spawn(async move {
        let mut endless_script = ::redis::cmd("EVAL");
        endless_script.arg("while true do end").arg(0);
        endless_script.query_async::<()>(&mut endless).await.expect_err("killed");
    });
    // The first that come wait until the script counts as too long.
    within("the script to count as too long", async {
        while told(&replica).0 != "refuses_writes" {
            replica.put(1002, "b").await;
        }
    })
    .await;
    assert!(told(&replica).1.starts_with("BUSY "), "{:?}", told(&replica));
    let mut kill = ::redis::cmd("SCRIPT");
    let _: () = kill.arg("KILL").query_async(&mut admin).await.expect("killed");
    looping.await.expect("over");
    eventually("Redis to be told", || replica.store.unsynced() == 0).await;
}

#[tokio::test]
async fn a_key_of_another_type_is_set_aside_and_all_sessions_are_stored() {
    let mut server = RedisServer::start().await;
    let replica = Replica::of(&server);
    replica.put(1001, "a").await;
    server.kill().await;
    for id in 1001..1101 {
        replica.put(id, "b").await;
    }
    server.restart().await;
    let _: u64 = ask(&server, &["LPUSH", "test:{acme}:session:1050", "theirs"]).await;
    eventually("all to be told", || replica.store.unsynced() == 0).await;
    let aside = "test:{acme}:session:1050-set-aside";
    let theirs: Vec<String> = ask(&server, &["LRANGE", aside, "0", "-1"]).await;
    assert_eq!(theirs, ["theirs"]);
    let left: i64 = ask(&server, &["PTTL", aside]).await;
    assert!((3_000_000..=3_600_000).contains(&left), "{left}");
}

/// As nodes do that have to announce a name and have none.
#[tokio::test]
async fn a_cluster_that_does_not_tell_its_nodes_is_not_reported_as_healthy() {
    let cluster = Cluster::start().await;
    for node in cluster.nodes() {
        set(node, "cluster-preferred-endpoint-type", "hostname").await;
    }
    let replica = Replica::with(redis(Topology::Cluster, &[cluster.nodes()[0].port()]), &[1]);
    replica.put(1001, "a").await;
    assert_eq!(replica.store.unsynced(), 1);
    assert_eq!(told(&replica).0, "down");
}

/// A Redis whose memory is about full takes some writes and refuses others.
#[tokio::test]
async fn a_redis_that_refuses_some_writes_is_not_reported_as_healthy_in_between() {
    let server = RedisServer::start().await;
    let replica = Replica::of(&server);
    set(&server, "maxmemory", "1").await;
    replica.put(1001, "a").await;
    set(&server, "maxmemory", "0").await;
    replica.put(1002, "b").await;
    assert_eq!(told(&replica).0, "refuses_writes");
    replica.put(1003, "c").await;
    assert_eq!(told(&replica).0, "refuses_writes");
}

#[tokio::test]
async fn replicas_know_of_each_other_and_of_their_leases_where_memory_is_full() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;
    left.put(1001, "kept").await;
    let [left, right] = [left, right].map(|replica| (replica.shared.leases(&tenant()), replica));
    let (one, other) = (&left.0, &right.0);
    one.membership().await.expect("told");
    let before = other.membership().await.expect("told");
    assert_eq!((before.replicas.len(), &before.agents[..]), (2, &[agent(1001)][..]));
    let held = one.hold(vec![agent(1001)], LeaseRequest(1)).await.expect("taken");
    assert_eq!(held, [agent(1001)]);

    set(&server, "maxmemory", "1").await;
    one.membership().await.expect_err("it writes");
    one.hold(vec![agent(1001)], LeaseRequest(2)).await.expect_err("it writes");
    assert_eq!(other.read_membership().await.expect("read"), before);
    let owners = other.held_by_others(vec![agent(1001), agent(1002)]).await.expect("read");
    let [(leased, owner)] = &owners[..] else { panic!("{owners:?}") };
    assert_eq!(*leased, agent(1001));
    let before = tokio::time::Instant::now();
    one.send_heartbeat().await.expect("a message takes no memory");
    for leases in [one, other] {
        let is_heard = || leases.heartbeats().get(owner).is_some_and(|at| *at > before);
        eventually("its heartbeat", is_heard).await;
    }
    one.release(vec![agent(1001)], LeaseRequest(3)).await.expect("an end takes no memory");
    assert_eq!(other.held_by_others(vec![agent(1001)]).await.expect("read"), []);
    one.leave().await.expect("nor does this");
    let left = other.read_membership().await.expect("read").replicas;
    assert!(left.len() == 1 && !left.contains(owner), "{left:?}");
}
