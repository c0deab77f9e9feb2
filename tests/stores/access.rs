//! TLS, and a user of Redis' access control list that may do no more than the example file says.

use std::time::Duration;

use ccgateway_bridge::{
    cluster::{
        LeaseRequest, Leases as _,
        redis::{LinkError, LinkState},
    },
    config::{Redis, RedisTls, Topology},
    event::{News, SessionChange, What},
    session::{SessionState, SessionStore as _},
    tenant::{Attempt, SharedSignIns as _},
};
use ccgateway_test_support::{Certificate, RedisServer};
use tempfile::TempDir;

use crate::{
    support::{Replica, agent, redis, tenant},
    topologies::ask,
};

const EXAMPLE: &str = include_str!("../../docs/ccgateway-bridge.example.toml");
const PASSWORD: &str = "canary-password";

/// The commands that the example file names.
pub(crate) fn commands() -> Vec<String> {
    let text = EXAMPLE.replace("\n#", "");
    let (_, rest) = text.split_once("It needs the commands ").expect("the comment on username");
    let (list, _) = rest.split_once(", and the keys").expect("its end");
    let words = list.replace(" and ", ", ");
    words.split(',').map(|word| format!("+{}", word.trim())).collect()
}

pub(crate) fn acting_as(server: &RedisServer, username: &str, password: &str) -> Redis {
    Redis {
        username: Some(username.into()),
        password: Some(password.to_owned().into()),
        ..redis(Topology::Standalone, &[server.port()])
    }
}

#[tokio::test]
async fn a_user_with_no_more_rights_than_the_example_names_is_enough() {
    let server = RedisServer::start().await;
    let mut admin = server.connection().await;
    let (password, rights) = (format!(">{PASSWORD}"), ["on", "~test:*", "&test:*"]);
    let mut user = ::redis::cmd("ACL");
    user.arg("SETUSER").arg("bridge").arg(&rights).arg(password).arg(commands());
    let _: () = user.query_async(&mut admin).await.expect("a user");
    let mut nobody = ::redis::cmd("ACL");
    let _: () =
        nobody.arg(&["SETUSER", "default", "off"]).query_async(&mut admin).await.expect("off");
    let config = acting_as(&server, "bridge", PASSWORD);
    let (left, right) = (Replica::with(config.clone(), &[1]), Replica::with(config, &[1]));
    let put = left.put(1001, "a").await;
    assert_eq!(left.store.unsynced(), 0);
    right.store.load(agent(1001)).await.unwrap().expect("a session");
    left.renew(&put, 1001, "b").await.expect("renewed");
    right.hears(1001, Some("b")).await;

    let leases = left.shared.leases(&tenant());
    let attempt = Attempt::lasting(Duration::from_secs(1));
    assert_eq!(leases.membership().await.expect("counted").agents, [agent(1001)]);
    let held = leases.hold(vec![agent(1001)], LeaseRequest(1)).await.expect("asked");
    assert_eq!(held, [agent(1001)]);
    leases.release(vec![agent(1001)], LeaseRequest(2)).await.expect("given back");
    leases.lock_sign_in(agent(1001), attempt).await.expect("locked");
    leases.unlock_sign_in(agent(1001), attempt).await.expect("unlocked");
    leases.send_heartbeat().await.expect("told");
    leases.leave().await.expect("left");

    let (told, heard) = (left.shared.events(&tenant(), 8), right.shared.events(&tenant(), 8));
    let what = What::Session(SessionChange { state: SessionState::Kept, cause: "".into() });
    told.add(agent(1001), what, tokio::time::Instant::now(), 0).await.expect("told");
    let latest = heard.latest(8).await.expect("read");
    assert!(matches!(latest, News::Cut { events, .. } if events.len() == 1));
    let heard = heard.next().await.expect("heard");
    assert!(matches!(heard, News::Missed(events) if events.len() == 1));
}

#[tokio::test]
async fn leases_are_given_back_by_whom_they_belong_to_and_not_by_a_request_that_is_late() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    let (left, right) = (left.shared.leases(&tenant()), right.shared.leases(&tenant()));
    let agents = vec![agent(1001), agent(1002)];
    let [first, second, third, fourth] = [1, 2, 3, 4].map(LeaseRequest);
    assert_eq!(left.hold(agents.clone(), first).await.expect("asked"), agents);
    assert_eq!(right.hold(agents.clone(), fourth).await.expect("asked"), []);
    right.release(agents.clone(), fourth).await.expect("nothing is theirs");
    assert_eq!(left.hold(vec![agent(1001)], third).await.expect("asked"), [agent(1001)]);
    let owners = right.held_by_others(agents.clone()).await.expect("read");
    assert_eq!(owners.iter().map(|(agent, _)| *agent).collect::<Vec<_>>(), agents);
    assert_eq!(owners[0].1, owners[1].1);
    assert_eq!(left.held_by_others(agents.clone()).await.expect("read"), []);
    // Asked for before the lease was taken again, and carried out after it.
    left.release(agents.clone(), second).await.expect("given back");
    assert_eq!(right.hold(agents.clone(), first).await.expect("asked"), [agent(1002)]);
    // A renewal that is late changes nothing of that.
    assert_eq!(left.hold(vec![agent(1001)], first).await.expect("asked"), [agent(1001)]);
    left.release(agents.clone(), second).await.expect("given back");
    assert_eq!(right.hold(agents.clone(), second).await.expect("asked"), [agent(1002)]);
    left.release(agents.clone(), fourth).await.expect("given back");
    assert_eq!(right.hold(agents.clone(), third).await.expect("asked"), agents);
}

/// Nor one that was sealed for another agent, or that is set back with another number.
#[tokio::test]
async fn a_lease_that_no_replica_has_made_is_nobodys() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    let (left, right) = (left.shared.leases(&tenant()), right.shared.leases(&tenant()));
    left.hold(vec![agent(1002)], LeaseRequest(7)).await.expect("asked");
    let key = |id: u32| format!("test:{{acme}}:lease:{id}");
    let sealed: String = ask(&server, &["GET", &key(1002)]).await;
    let (owner, _) = sealed.split_once(':').expect("an owner");
    for forged in [
        "00000000000000ab".to_owned(),
        "00000000000000ab:9:".to_owned(),
        format!("{owner}:9"),
        sealed.replacen(":7:", ":8:", 1),
        sealed,
    ] {
        let _: String = ask(&server, &["SET", &key(1001), &forged]).await;
        assert_eq!(right.held_by_others(vec![agent(1001)]).await.expect("read"), []);
        let held = right.hold(vec![agent(1001)], LeaseRequest(1)).await.expect("asked");
        assert_eq!(held, [agent(1001)], "{forged}");
        right.release(vec![agent(1001)], LeaseRequest(2)).await.expect("given back");
    }
    assert_eq!(right.hold(vec![agent(1002)], LeaseRequest(3)).await.expect("asked"), []);
}

#[tokio::test]
async fn a_wrong_password_is_told_without_it() {
    let server = RedisServer::with(&["--save", "", "--requirepass", PASSWORD]).await;
    let wrong = Replica::with(acting_as(&server, "default", "canary-wrong"), &[1]);
    let failed = wrong.store.load(agent(1001)).await.expect_err("not let in");
    let LinkState::Down(LinkError::Down(words)) = wrong.shared.link().state() else {
        panic!("{failed}");
    };
    assert!(words.contains("WRONGPASS") || words.contains("uthentication"), "{words}");
    let shown = format!("{failed} {failed:?} {:?} {:?}", wrong.shared, wrong.store);
    assert!(!shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn tls_goes_by_the_authority_that_is_configured() {
    let (folder, aside) = (TempDir::new().expect("a folder"), TempDir::new().expect("another"));
    let own = Certificate::of("127.0.0.1", folder.path());
    let server = RedisServer::with_tls(&own.pem, &own.key).await;

    let trusting = |ca: &Certificate| Redis {
        tls: Some(RedisTls { ca_pem: Some(std::fs::read(&ca.pem).expect("a file")) }),
        ..redis(Topology::Standalone, &[server.port()])
    };
    let mut config = trusting(&own);
    // A handshake is part of the first command.
    config.timeouts.command = Duration::from_secs(30);
    let (left, right) = (Replica::with(config.clone(), &[1]), Replica::with(config, &[1]));
    let put = left.put(1001, "a").await;
    assert_eq!(left.store.unsynced(), 0);
    right.store.load(agent(1001)).await.unwrap().expect("a session");
    left.renew(&put, 1001, "b").await.expect("renewed");
    right.hears(1001, Some("b")).await;

    let other = Certificate::of("127.0.0.1", aside.path());
    let wary = Replica::with(trusting(&other), &[1]);
    wary.store.load(agent(1001)).await.expect_err("not the one it trusts");
}
