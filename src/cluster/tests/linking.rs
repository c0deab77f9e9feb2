//! The link to a Redis that answers, refuses, hangs or is gone.

use std::time::Duration;

use ccgateway_test_support::{RedisServer, until_asked};
use futures_util::FutureExt as _;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::world::{ask, command, config, link, store_config, tenant, until};
use crate::{
    cluster::redis::{Keys, Link, LinkError, LinkState, Notice, Probe, Repeat, Script},
    config::{Redis, Sentinel, Topology},
};

async fn ping(link: &Link) -> Result<String, LinkError> {
    link.command(&redis::cmd("PING"), Repeat::Once).await
}

/// A port at which nobody listens.
async fn nowhere() -> u16 {
    let mut server = RedisServer::start().await;
    server.kill().await;
    server.port()
}

#[tokio::test]
async fn a_link_that_works_is_up_and_counts_what_it_asks() {
    let server = RedisServer::start().await;
    let link = link(&server);
    assert_eq!(link.state(), LinkState::Unused);
    assert_eq!(ping(&link).await.as_deref(), Ok("PONG"));
    assert_eq!((link.state(), link.commands(), link.failures()), (LinkState::Up, 1, 0));
    let mut two = redis::pipe();
    two.cmd("PING").cmd("PING");
    let answers: Result<Vec<String>, _> = link.pipeline(&two, Repeat::Once).await;
    assert_eq!(answers.map(|answers| answers.len()), Ok(2));
    assert_eq!(link.commands(), 2);
}

#[tokio::test]
async fn an_address_that_does_not_answer_is_not_tried_for_every_call() {
    let port = nowhere().await;
    let link = Link::new(&config(&[port]));
    let mut worse = Box::pin(link.worse());
    assert!(worse.as_mut().now_or_never().is_none());
    for failures in 1..=3 {
        assert!(matches!(ping(&link).await, Err(LinkError::Down(_))));
        assert_eq!((link.failures(), link.commands()), (failures, 0));
    }
    assert!(matches!(link.state(), LinkState::Down(_)));
    assert!(timeout(Duration::from_secs(20), worse).await.is_ok(), "whoever waits is told");
}

/// As behind a network that swallows everything: an attempt lasts until its time is over.
#[tokio::test]
async fn while_redis_is_known_to_be_down_nobody_waits_for_a_connection_to_it() {
    let port = nowhere().await;
    let link = Link::new(&config(&[port]));
    assert!(matches!(ping(&link).await, Err(LinkError::Down(_))));
    let silent = TcpListener::bind(("127.0.0.1", port)).await.expect("free again");
    let asking = async {
        loop {
            assert!(matches!(ping(&link).await, Err(LinkError::Down(_))));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let _attempt = tokio::select! {
        attempt = silent.accept() => attempt.expect("accepted"),
        () = asking => panic!("without end"),
    };
    for _ in 0..100 {
        let told = ping(&link).now_or_never();
        assert!(matches!(told, Some(Err(LinkError::Down(_)))), "{told:?}");
    }
    // Whatever was begun gets as far as it can.
    let yielding = async {
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        another = silent.accept() => panic!("one attempt at a time: {another:?}"),
        () = yielding => {}
    }
    let probe = Probe::new(&Keys::new("test:", &tenant()));
    assert!(probe.ask(&link).now_or_never().is_none(), "a probe waits until the attempt is over");
}

/// What was under way when Redis went silent has its own time limit, and the next attempt another one.
#[tokio::test]
async fn whoever_has_no_answer_in_time_does_not_wait_for_the_next_connection_too() {
    let server = RedisServer::start().await;
    let mut config = config(&[server.port()]);
    config.timeouts.command = Duration::from_millis(400);
    let link = Link::new(&config);
    until_asked("an answer", async || ping(&link).await.is_ok()).await;
    server.freeze();
    let before = link.commands();
    let asking = async {
        let answer = ping(&link).await;
        // It has the next connection opened, which takes as long as the server is frozen.
        assert!(matches!(ping(&link).await, Err(LinkError::Down(_))));
        answer
    };
    let asking_later = async {
        until("the first to be asked", || link.commands() > before).await;
        tokio::time::sleep(config.timeouts.command / 2).await;
        ping(&link).await
    };
    let (first, second) = tokio::join!(asking, asking_later);
    for answer in [first, second] {
        assert!(matches!(answer, Err(LinkError::Silent(_))), "{answer:?}");
    }
    let probe = Probe::new(&Keys::new("test:", &tenant()));
    assert!(probe.ask(&link).now_or_never().is_none(), "the attempt is not over");
}

#[tokio::test]
async fn a_request_waits_for_a_connection_no_longer_than_for_an_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut config = config(&[silent.local_addr().expect("bound").port()]);
    config.timeouts.command = Duration::from_millis(200);
    let link = Link::new(&config);
    assert!(matches!(ping(&link).await, Err(LinkError::Down(_))));
    let probe = Probe::new(&Keys::new("test:", &tenant()));
    assert!(probe.ask(&link).now_or_never().is_none(), "the attempt is not over");
}

#[tokio::test]
async fn the_first_address_that_works_is_used_and_comes_first_again() {
    let (server, gone) = (RedisServer::start().await, nowhere().await);
    let link = Link::new(&config(&[gone, server.port()]));
    assert_eq!(ping(&link).await.as_deref(), Ok("PONG"));
    let one = Link::new(&config(&[server.port(), gone]));
    assert_eq!(ping(&one).await.as_deref(), Ok("PONG"));
}

#[tokio::test]
async fn a_connection_that_was_cut_is_replaced_for_what_may_be_repeated() {
    let server = RedisServer::start().await;
    let link = link(&server);
    assert_eq!(ping(&link).await.as_deref(), Ok("PONG"));
    let _: u64 = ask(&server, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    assert_eq!(ping(&link).await.as_deref(), Ok("PONG"));
    assert_eq!((link.state(), link.failures()), (LinkState::Up, 0));
}

#[tokio::test]
async fn what_may_not_be_repeated_fails_with_its_connection() {
    let mut server = RedisServer::start().await;
    let link = link(&server);
    assert_eq!(ping(&link).await.as_deref(), Ok("PONG"));
    server.freeze();
    let ping = redis::cmd("PING");
    let asked = link.command::<String>(&ping, Repeat::Never);
    let cut = async {
        until("it to be asked", || link.commands() == 2).await;
        server.kill().await;
    };
    let (answer, ()) = tokio::join!(asked, cut);
    assert!(matches!(answer, Err(LinkError::Broken(_))), "{answer:?}");
}

#[tokio::test]
async fn a_redis_that_hangs_is_given_up_in_time_and_taken_again() {
    let server = RedisServer::start().await;
    let mut config = config(&[server.port()]);
    config.timeouts.command = Duration::from_millis(300);
    let link = Link::new(&config);
    until_asked("an answer", async || ping(&link).await.is_ok()).await;
    server.freeze();
    let begun = Instant::now();
    assert!(matches!(ping(&link).await, Err(LinkError::Silent(_))));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(matches!(link.state(), LinkState::Down(_)));
    server.thaw();
    until_asked("an answer", async || ping(&link).await.is_ok()).await;
    assert_eq!(link.state(), LinkState::Up);
}

#[tokio::test]
async fn what_redis_refuses_is_told_by_what_was_asked() {
    let server = RedisServer::start().await;
    let link = link(&server);
    let _: String = ask(&server, &["SET", "text", "x"]).await;
    let refused = link.command::<u64>(&command(&["HSET", "text", "a", "b"]), Repeat::Once).await;
    let Err(LinkError::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert!(refusal.is_about_one_key());
    assert_eq!(refusal.scope(), crate::session::Scope::Writes);
    let refused = link.command::<String>(&command(&["HGET", "text", "a"]), Repeat::Once).await;
    let Err(LinkError::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.scope(), crate::session::Scope::Reads);
    let refused = link.command::<u64>(&command(&["NONSENSE"]), Repeat::Once).await;
    let Err(LinkError::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert!(!refusal.is_about_one_key());
    assert_eq!(link.failures(), 3);
    assert!(matches!(link.state(), LinkState::Refusing(_)));
}

#[tokio::test]
async fn a_script_is_sent_to_a_redis_that_does_not_know_it() {
    let server = RedisServer::start().await;
    let link = link(&server);
    let script = Script::new("return {KEYS[1], KEYS[2], ARGV[1]}");
    let call = script.on("a").key("b").arg("c");
    for flush in [false, false, true] {
        if flush {
            let _: String = ask(&server, &["SCRIPT", "FLUSH"]).await;
        }
        let answer: Result<Vec<String>, _> = link.script(&call, Repeat::Once).await;
        assert_eq!(answer, Ok(["a", "b", "c"].map(String::from).to_vec()));
    }
    assert_eq!((link.commands(), link.failures()), (5, 0), "twice with the source");
}

#[tokio::test]
async fn a_script_that_is_refused_is_not_sent_with_its_source_for_that() {
    let server = RedisServer::start().await;
    let link = link(&server);
    let _: String = ask(&server, &["SET", "text", "x"]).await;
    let script = Script::new("return redis.call('HGET', KEYS[1], 'a')");
    for commands in [2, 3] {
        let answer = link.script::<String>(&script.on("text"), Repeat::Once).await;
        assert!(matches!(answer, Err(LinkError::Refused(_))), "{answer:?}");
        assert_eq!(link.commands(), commands, "only the first does not know the script");
    }
}

#[tokio::test]
async fn a_subscription_tells_messages_and_where_some_may_be_missing() {
    let mut server = RedisServer::start().await;
    let link = link(&server);
    let mut subscription = link.subscribe("channel");
    let soon = Duration::from_secs(20);
    assert_eq!(timeout(soon, subscription.next()).await, Ok(Notice::Gap));
    for _ in 0..2 {
        let _: u64 = ask(&server, &["PUBLISH", "channel", "hello"]).await;
        let notice = timeout(soon, subscription.next()).await;
        assert_eq!(notice, Ok(Notice::Message(b"hello".to_vec())));
    }
    // A peer that answers heartbeats is not left.
    let quiet = timeout(Duration::from_millis(350), subscription.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    server.kill().await;
    server.restart().await;
    assert_eq!(timeout(soon, subscription.next()).await, Ok(Notice::Gap));
}

#[tokio::test]
async fn a_subscription_pauses_between_its_attempts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let link = Link::new(&config(&[listener.local_addr().expect("bound").port()]));
    let mut subscription = link.subscribe("channel");
    let mut tried = 0;
    let ending = async {
        loop {
            drop(listener.accept().await);
            tried += 1;
        }
    };
    tokio::select! {
        notice = Box::pin(subscription.next()) => panic!("{notice:?}"),
        () = ending => {}
        () = tokio::time::sleep(Duration::from_millis(300)) => {}
    }
    assert!((1..8).contains(&tried), "{tried}");
}

#[tokio::test]
async fn the_user_and_the_password_are_told() {
    let server = RedisServer::start().await;
    let _: String = ask(&server, &["ACL", "SETUSER", "bridge", "on", ">word", "+@all", "~*"]).await;
    let as_user = |password: &str| Redis {
        username: Some("bridge".into()),
        password: Some(password.into()),
        ..config(&[server.port()])
    };
    let link = Link::new(&as_user("word"));
    let name: Result<String, _> = link.command(&command(&["ACL", "WHOAMI"]), Repeat::Once).await;
    assert_eq!(name.as_deref(), Ok("bridge"));
    let refused = ping(&Link::new(&as_user("another"))).await;
    assert!(
        matches!(&refused, Err(LinkError::Down(why)) if why == "authentication failed"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn sentinels_tell_where_the_master_is() {
    let server = RedisServer::start().await;
    let lines = format!("sentinel monitor ours 127.0.0.1 {} 1\n", server.port());
    let sentinel = RedisServer::sentinel(&lines).await;
    let gone = nowhere().await;
    let asking = |master: &str| {
        let sentinels = Sentinel { master: master.into(), username: None, password: None };
        let topology = Topology::Sentinel(sentinels);
        Link::new(&Redis { topology, ..config(&[gone, sentinel.port()]) })
    };
    let link = asking("ours");
    let set: Result<String, _> = link.command(&command(&["SET", "a", "b"]), Repeat::Once).await;
    assert_eq!(set.as_deref(), Ok("OK"));
    let value: String = ask(&server, &["GET", "a"]).await;
    assert_eq!(value, "b");
    let mut subscription = link.subscribe("channel");
    let listening = timeout(Duration::from_secs(20), subscription.next()).await;
    assert_eq!(listening, Ok(Notice::Gap));
    assert!(matches!(ping(&asking("others")).await, Err(LinkError::Down(_))));
    // Who was the master a moment ago need not be it.
    let _: String = ask(&server, &["REPLICAOF", "127.0.0.1", "1"]).await;
    assert!(matches!(ping(&asking("ours")).await, Err(LinkError::Down(_))));
}

/// One that was cut off from the others while they made another server the master.
#[tokio::test]
async fn a_sentinel_that_does_not_name_the_master_is_left_for_the_next_one() {
    let (server, former) = (RedisServer::start().await, RedisServer::start().await);
    let _: String = ask(&former, &["REPLICAOF", "127.0.0.1", "1"]).await;
    let naming = async |port: u16| {
        RedisServer::sentinel(&format!("sentinel monitor ours 127.0.0.1 {port} 1\n")).await
    };
    let good = naming(server.port()).await;
    for named in [former.port(), nowhere().await] {
        let bad = naming(named).await;
        let ours = Sentinel { master: "ours".into(), username: None, password: None };
        let topology = Topology::Sentinel(ours);
        let link = Link::new(&Redis { topology, ..config(&[bad.port(), good.port()]) });
        let set: Result<String, _> = link.command(&command(&["SET", "a", "b"]), Repeat::Once).await;
        assert_eq!(set.as_deref(), Ok("OK"));
        let mut subscription = link.subscribe("channel");
        let soon = Duration::from_secs(20);
        assert_eq!(timeout(soon, subscription.next()).await, Ok(Notice::Gap));
        let _: u64 = ask(&server, &["PUBLISH", "channel", "news"]).await;
        let heard = timeout(soon, subscription.next()).await;
        assert_eq!(heard, Ok(Notice::Message(b"news".to_vec())));
    }
}

/// Each try of a server that is gone takes as long as connecting may.
#[tokio::test]
async fn a_master_that_all_sentinels_name_is_tried_once() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let named = gone.local_addr().expect("bound").port();
    let sentinel = async || {
        RedisServer::sentinel(&format!("sentinel monitor ours 127.0.0.1 {named} 1\n")).await
    };
    let sentinels = [sentinel().await, sentinel().await, sentinel().await];
    let ours = Sentinel { master: "ours".into(), username: None, password: None };
    let ports = sentinels.each_ref().map(RedisServer::port);
    let link = Link::new(&Redis {
        topology: Topology::Sentinel(ours),
        // The sentinels look at the server too. They do not know this.
        password: Some("of-the-bridge".into()),
        ..config(&ports)
    });
    let mut tried = 0;
    let ending = async {
        loop {
            let (mut connection, _) = gone.accept().await.expect("accepted");
            let mut said = [0; 1024];
            let length = connection.read(&mut said).await.unwrap_or_default();
            tried += usize::from(said[..length].windows(13).any(|word| word == b"of-the-bridge"));
        }
    };
    tokio::select! {
        answer = ping(&link) => assert!(matches!(answer, Err(LinkError::Down(_))), "{answer:?}"),
        () = ending => {}
    }
    assert_eq!(tried, 1);
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_left_for_another_but_not_for_every_request() {
    let server = RedisServer::start().await;
    let _: String = ask(&server, &["REPLICAOF", "127.0.0.1", "1"]).await;
    let link = link(&server);
    let (begun, mut asked) = (Instant::now(), 0);
    // By then the pauses between two attempts have grown.
    while begun.elapsed() < Duration::from_secs(1) {
        let refused = link.command::<String>(&command(&["SET", "a", "b"]), Repeat::Never).await;
        assert!(matches!(refused, Err(LinkError::Refused(_))), "{refused:?}");
        asked += 1;
        if asked == 1 {
            assert_eq!(link.commands(), 2, "the second at what may be another server");
        }
    }
    let again = link.commands() - asked;
    assert!((1..8).contains(&again), "{again} of {asked} were sent twice");
    let _: String = ask(&server, &["REPLICAOF", "NO", "ONE"]).await;
    let set: Result<String, _> = link.command(&command(&["SET", "a", "b"]), Repeat::Never).await;
    assert_eq!(set.as_deref(), Ok("OK"));
}

/// An address at which one server is reached for each connection: the one that it leads to when it is opened.
pub(super) async fn leading(to: watch::Receiver<u16>) -> (u16, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let leading = tokio::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            let server = *to.borrow();
            tokio::spawn(async move {
                let mut there = TcpStream::connect(("127.0.0.1", server)).await?;
                tokio::io::copy_bidirectional(&mut here, &mut there).await
            });
        }
    });
    (port, AbortOnDropHandle::new(leading))
}

/// A master that is cut off from its replicas, while a new one has been made.
#[tokio::test]
async fn messages_come_from_the_server_that_commands_have_gone_to() {
    let (former, new) = (RedisServer::start().await, RedisServer::start().await);
    let (lead, to) = watch::channel(former.port());
    let (port, _leading) = leading(to).await;
    let link = Link::new(&config(&[port]));
    let mut subscription = link.subscribe("channel");
    let mut next = async || {
        let next = timeout(Duration::from_secs(20), Box::pin(subscription.next())).await;
        next.expect("a notice")
    };
    assert_eq!(next().await, Notice::Gap);
    let set = command(&["SET", "a", "b"]);
    link.command::<String>(&set, Repeat::Never).await.expect("set");
    let _: String = ask(&former, &["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    lead.send_replace(new.port());
    link.command::<String>(&set, Repeat::Never).await.expect("set at the new one");
    assert_eq!(next().await, Notice::Gap);
    let _: u64 = ask(&new, &["PUBLISH", "channel", "news"]).await;
    assert_eq!(next().await, Notice::Message(b"news".into()));
}

/// A server that is too slow for one command is left for another one, and goes on as if nothing had happened.
#[tokio::test]
async fn messages_come_from_another_server_also_if_the_former_one_was_only_slow() {
    let (former, new) = (RedisServer::start().await, RedisServer::start().await);
    let mut config = config(&[former.port(), new.port()]);
    (config.timeouts.command, config.timeouts.connect) =
        (Duration::from_millis(300), Duration::from_secs(1));
    config.timeouts.heartbeat = Duration::from_secs(60);
    let link = Link::new(&config);
    let mut subscription = link.subscribe("channel");
    let mut next = async || {
        let next = timeout(Duration::from_secs(20), Box::pin(subscription.next())).await;
        next.expect("a notice")
    };
    assert_eq!(next().await, Notice::Gap);
    ping(&link).await.expect("up");
    former.freeze();
    until_asked("the other server", async || ping(&link).await.is_ok()).await;
    former.thaw();
    assert_eq!(next().await, Notice::Gap);
    let _: u64 = ask(&new, &["PUBLISH", "channel", "news"]).await;
    assert_eq!(next().await, Notice::Message(b"news".into()));
}

#[tokio::test]
async fn a_server_that_ends_every_connection_is_not_tried_for_every_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let link = Link::new(&config(&[listener.local_addr().expect("bound").port()]));
    let asking = async {
        for _ in 0..100 {
            assert!(matches!(ping(&link).await, Err(LinkError::Down(_))));
        }
    };
    let mut tried = 0;
    let ending = async {
        loop {
            drop(listener.accept().await);
            tried += 1;
        }
    };
    tokio::select! {
        () = asking => {}
        () = ending => {}
    }
    assert!((1..50).contains(&tried), "{tried}");
}

#[tokio::test]
async fn the_doctor_is_told_what_redis_lacks_and_what_to_do_about_it() {
    let server = RedisServer::start().await;
    let asked = async |port| crate::cluster::ask(&store_config(port, &[1]), &[&tenant()]).await;
    assert!(asked(server.port()).await.expect("it works").contains("all"));
    let (error, told) = asked(nowhere().await).await.expect_err("nobody is there");
    assert!(error.contains("refused") && told.starts_with("check store.urls"), "{error}: {told}");
    let _: String = ask(&server, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let (error, told) = asked(server.port()).await.expect_err("it is full");
    assert!(error.contains("OOM") && told.contains("maxmemory"), "{error}: {told}");
}
