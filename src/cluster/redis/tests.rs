use ccgateway_test_support::RedisServer;
use futures_util::FutureExt as _;
use tokio::net::TcpListener;

use super::*;
use crate::{cluster::tests::world::until, resolver::without_threads_for_blocking_work};

fn link() -> Link {
    Link::new(&crate::cluster::tests::world::config(&[1]))
}

#[tokio::test]
async fn an_idle_connection_that_is_cut_says_nothing_about_redis_and_one_that_is_cut_twice_does() {
    let broken = || Err::<(), _>(LinkError::Broken("cut".into()));
    for (repeat, before, is_good) in [
        (Repeat::Never, Ok(()), true),
        (Repeat::Once, Ok(()), false),
        (Repeat::Never, Err(LinkError::Silent(Duration::ZERO)), false),
    ] {
        let link = link();
        link.note(&before, repeat);
        link.note(&broken(), repeat);
        assert_eq!(link.state().is_good(), is_good, "{before:?} {repeat:?}");
        let is_newest = link.state() == LinkState::Down(LinkError::Broken("cut".into()));
        assert_eq!(is_newest, !is_good);
        assert_eq!(link.failures(), 1 + u64::from(before.is_err()));
    }
}

#[tokio::test]
async fn what_could_not_be_sent_says_nothing_about_redis() {
    let link = link();
    link.note(&Err::<(), _>(LinkError::Unsent("too long".into())), Repeat::Once);
    assert_eq!((link.state(), link.failures()), (LinkState::Unused, 1));
}

#[test]
fn a_name_is_looked_up_although_all_threads_for_blocking_work_hang() {
    without_threads_for_blocking_work(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let node = config::RedisNode { host: "localhost".into(), port };
        let alone = crate::cluster::tests::world::config(&[]);
        let link = Link::new(&config::Redis { nodes: vec![node], ..alone });
        let ping = ::redis::cmd("PING");
        let asking = async {
            loop {
                let _late = link.command::<String>(&ping, Repeat::Once).await;
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            connected = listener.accept() => drop(connected.expect("accepted")),
            () = asking => panic!("without end"),
        }
    });
}

#[tokio::test(start_paused = true)]
async fn in_a_cluster_a_refusal_is_an_outage_only_for_the_keys_that_were_asked_for() {
    let refused = || {
        let refusal = Refusal::for_tests("LOADING", Scope::Reads);
        Err::<(), _>(LinkError::Refused(refusal))
    };
    let alone = crate::cluster::tests::world::config(&[1]);
    for (topology, is_for_all) in [(Topology::Standalone, true), (Topology::Cluster, false)] {
        let link = Link::new(&config::Redis { topology, ..alone.clone() });
        let (one, another) = (link.for_keys(), link.for_keys());
        one.clone().note(&refused(), Repeat::Once);
        assert!(one.last_outage().is_some() && one.refusing().is_some());
        assert_eq!(another.last_outage().is_some(), is_for_all, "{:?}", another.last_outage());
        assert_eq!(another.refusing().is_some(), is_for_all);
        assert!(!another.state().is_good(), "that is the state of all");

        one.note(&Err::<(), _>(LinkError::Silent(Duration::ZERO)), Repeat::Once);
        one.note(&Ok(()), Repeat::Once);
        assert!(another.last_outage().is_some(), "nobody was answered");
    }
}

#[tokio::test]
async fn a_connection_is_opened_also_if_whoever_wanted_it_leaves() {
    let server = RedisServer::start().await;
    let link = crate::cluster::tests::world::link(&server);
    let ping = ::redis::cmd("PING");
    assert!(link.command::<String>(&ping, Repeat::Once).now_or_never().is_none());
    until("open", || link.slot().open.is_some()).await;
}
