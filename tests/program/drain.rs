//! SIGTERM under load loses no call.

use std::{sync::Arc, time::Duration};

use ccgateway_bridge::{
    client,
    rpc::proto::{
        SetBusyRequest, SignInRequest,
        health::{
            HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
        },
    },
};
use ccgateway_sim::{Interface, Options, Simulator};
use ccgateway_test_support::{Clients, PASSWORD, Program, origin, within};
use tokio::{io::AsyncReadExt as _, net::TcpStream, sync::Semaphore, task::JoinSet, time::Instant};
use tonic::{Code, Status};

use crate::support::{register, start};

const CALLERS: u32 = 16;
const CALLS_BEFORE: u32 = 300;

/// Calls until the bridge takes no more connections; gives how many calls were answered.
async fn call_until_gone(program: &Program, agent: u32, calls: Arc<Semaphore>) -> usize {
    let mut states = Clients::of(program.grpc).states;
    for answered in 0.. {
        let request = SetBusyRequest {
            agent_id: agent.to_string(),
            reason: Some(200),
            prolong: Some(true),
            ..<_>::default()
        };
        match states.set_busy(request).await {
            Ok(_) => calls.add_permits(1),
            Err(error) if was_never_sent(&error) => return answered,
            Err(error) => panic!("a call was lost: {error:?}"),
        }
    }
    unreachable!("the loop ends by returning")
}

/// A caller that honours GOAWAY sends its next call elsewhere; here is nowhere else. A call that
/// crosses the GOAWAY on its way is refused by the client's own end: the bridge has not taken it.
fn was_never_sent(status: &Status) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(status);
    while let Some(error) = next {
        if let Some(client) = error.downcast_ref::<hyper_util::client::legacy::Error>()
            && client.is_connect()
        {
            return true;
        }
        if let Some(http2) = error.downcast_ref::<h2::Error>()
            && http2.is_go_away()
            && http2.is_remote()
            && http2.reason() == Some(h2::Reason::NO_ERROR)
        {
            return true;
        }
        next = error.source();
    }
    false
}

#[tokio::test]
async fn a_rollout_loses_no_call() {
    let program = start("server.drain = { delay = \"100ms\", timeout = \"5s\" }", &[]).await;
    for agent in 1001..1001 + CALLERS {
        register(&program, agent).await;
    }
    let program = Arc::new(program);
    let mut silent = TcpStream::connect(program.grpc).await.expect("connected");
    let mut watch = HealthClient::with_origin(client::channel(), origin(program.grpc));
    let watched = watch.watch(HealthCheckRequest::default()).await.expect("watching");
    let mut watched = watched.into_inner();
    let serving = watched.message().await.expect("readable").expect("a status");
    assert_eq!(serving.status(), ServingStatus::Serving);

    let calls = Arc::new(Semaphore::new(0));
    let mut callers = JoinSet::new();
    for agent in 1001..1001 + CALLERS {
        let (program, calls) = (program.clone(), calls.clone());
        callers.spawn(async move { call_until_gone(&program, agent, calls).await });
    }
    let under_load = calls.acquire_many(CALLS_BEFORE);
    within("calls", under_load).await.expect("open").forget();
    let started = Instant::now();
    program.signal("-TERM");

    let answered: usize = within("the callers", callers.join_all()).await.into_iter().sum();
    let asked = program.gateway.journal();
    let asked = asked.iter().filter(|entry| entry.interface == Some(Interface::SayBusy)).count();
    assert_eq!(asked, answered, "every call that was carried out was answered");

    let not_serving = watched.message().await.expect("readable").expect("a status");
    assert_eq!(not_serving.status(), ServingStatus::NotServing);
    assert!(watched.message().await.expect("ended, not cut").is_none());
    assert_eq!(silent.read(&mut [0]).await.expect("closed, not cut"), 0);

    drop((watch, watched));
    let program = Arc::into_inner(program).expect("the callers are gone");
    let (code, printed) = program.ended().await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn kept_sessions_are_left_or_signed_out_as_configured() {
    for (sessions, left) in [("leave", true), ("sign-out", false)] {
        let drain = format!("server.drain = {{ delay = \"0s\", sessions = \"{sessions}\" }}");
        let program = start(&drain, &[]).await;
        let guid = register(&program, 2001).await;
        for agent in 1001..1041 {
            let request = SignInRequest {
                agent_id: agent.to_string(),
                password: Some(PASSWORD.into()),
                ..<_>::default()
            };
            Clients::of(program.grpc).sessions.sign_in(request).await.expect("signed in");
        }
        program.signal("-TERM");
        let gateway = program.gateway.clone();
        let (code, printed) = program.ended().await;
        assert_eq!(code, Some(0), "{printed}");
        let said = if left { "\"kept\":40" } else { "\"sessions\":40,\"signed_out\":40" };
        assert!(printed.contains(said), "{printed}");
        for agent in 1001..1041 {
            assert_eq!(gateway.agent(agent).expect("known").signed_in, left, "{sessions}");
        }
        // The session of an owner is left alone in any case.
        assert_eq!(gateway.agent(2001).expect("known").guid, Some(guid));
    }
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_keeps_no_other_tenants_agents_signed_in() {
    let options =
        Options { plaintext: true, default_password: Some(PASSWORD.into()), ..Options::default() };
    let other = Simulator::start(options).await.expect("a gateway");
    let drain = "server.drain = { delay = \"0s\", timeout = \"4s\", sessions = \"sign-out\" }";
    let url = other.base_url();
    let drain = &format!("{drain}\n[tenants.other]\nbase_urls = \"{url}\"");
    let program = start(drain, &[]).await;
    let sign_in = async |tenant: &str, agent: u32| {
        let request = SignInRequest {
            tenant_id: tenant.into(),
            agent_id: agent.to_string(),
            password: Some(PASSWORD.into()),
            ..<_>::default()
        };
        Clients::of(program.grpc).sessions.sign_in(request).await.expect("signed in");
    };
    for agent in 1001..1021 {
        sign_in("acme", agent).await;
    }
    sign_in("other", 1001).await;
    program.gateway.freeze();
    program.signal("-TERM");
    let (_, printed) = program.ended().await;
    assert!(!other.agent(1001).expect("known").signed_in, "{printed}");
    assert!(printed.contains("not all agents were signed out"), "{printed}");
}

#[tokio::test]
async fn calls_that_outlast_the_drain_are_answered_before_the_end() {
    let program = start("server.drain = { delay = \"0s\", timeout = \"2s\" }", &[]).await;
    let agents = [1001, 1001, 1002];
    register(&program, 1001).await;
    register(&program, 1002).await;
    program.gateway.freeze();
    let mut calls = JoinSet::new();
    for agent in agents {
        let mut states = Clients::of(program.grpc).states;
        let request = SetBusyRequest { agent_id: agent.to_string(), ..<_>::default() };
        calls.spawn(async move { states.set_busy(request).await });
    }
    let asked = || program.gateway.journal().len();
    within("two requests", async {
        while asked() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    program.signal("-TERM");

    let mut codes: Vec<_> = within("answers", calls.join_all())
        .await
        .into_iter()
        .map(|answer| answer.expect_err("the gateway is frozen").code())
        .collect();
    codes.sort_by_key(|&code| code as i32);
    // Two were sent, and what became of them is unknown; one waited for its agent's turn.
    assert_eq!(codes, [Code::Unknown, Code::Unknown, Code::Unavailable]);
    let (code, printed) = program.ended().await;
    assert_eq!(code, Some(0), "{printed}");
}
