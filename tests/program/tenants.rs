//! Tenants that come, change and go while the program runs.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ccgateway_bridge::rpc::proto::{
    BatchSetBusyRequest, SetBusyRequest, SetBusyResponse, SignInRequest, WatchEventsRequest,
    watch_events_response::What,
};
use ccgateway_sim::{Fault, Interface, Misbehaviour, Options, Simulator};
use ccgateway_test_support::{Clients, PASSWORD, Program, asked, gateway, in_file, within};
use serde_json::Value;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use crate::support::{setup, start, start_at};

/// With a dot, so that its name in keys is quoted.
const EXTRA: &str = "extra.eu";

/// A gateway for one more tenant, whose CA is in the file `extra.pem` of the program's folder.
async fn extra_gateway(program: &Program) -> Simulator {
    let extra = gateway(Options::default()).await;
    program.site.write("extra.pem", extra.certificate_pem());
    extra
}

/// The section of that tenant.
fn section(gateway: &Simulator, lines: &str) -> String {
    let url = gateway.base_url();
    format!(
        "\n[tenants.\"extra.eu\"]\nbase_urls = [{url:?}]\ntls.ca_file = \"extra.pem\"\n{lines}\n"
    )
}

/// Has the program read this configuration, and waits until it has said so this often.
async fn reload(program: &Program, text: &str, times: usize) {
    fs::write(&program.config, text).expect("written");
    program.signal("-HUP");
    within("the configuration to be in force", async {
        while program.said("a changed configuration is in force") < times {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn sign_in(clients: &Clients, tenant: &str, agent: u32) -> Result<(), Status> {
    let (tenant_id, agent_id, password) = (tenant.into(), agent.to_string(), Some(PASSWORD.into()));
    let request = SignInRequest { tenant_id, agent_id, password, ..<_>::default() };
    clients.sessions.clone().sign_in(request).await.map(drop)
}

async fn busy(clients: &Clients, tenant: &str, agent: u32) -> Result<SetBusyResponse, Status> {
    let request = SetBusyRequest {
        tenant_id: tenant.into(),
        agent_id: agent.to_string(),
        reason: Some(200),
        prolong: Some(true),
        ..<_>::default()
    };
    clients.call(request).await
}

/// Calls for the agents of `acme`, one after the other, until it is told to end. No call may fail.
struct Calling {
    ends: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Calling {
    fn begin(program: &Program) -> Self {
        let (ends, calls) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let clients = Clients::of(program.grpc);
        let (ending, counted) = (ends.clone(), calls.clone());
        let task = tokio::spawn(async move {
            while !ending.load(Ordering::Relaxed) {
                busy(&clients, "acme", 1001).await.expect("a call of the other tenant");
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { ends, calls, task }
    }

    /// Waits for some more calls.
    async fn some(&self) {
        let before = self.calls.load(Ordering::Relaxed);
        within("calls of the other tenant", async {
            while self.calls.load(Ordering::Relaxed) < before + 5 && !self.task.is_finished() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn end(self) {
        self.ends.store(true, Ordering::Relaxed);
        self.task.await.expect("no call of the other tenant failed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_comes_changes_and_goes_and_no_call_of_another_fails() {
    let program = start("server.reload_interval = \"off\"\n", &[]).await;
    let (clients, extra) = (Clients::of(program.grpc), extra_gateway(&program).await);
    sign_in(&clients, "acme", 1001).await.expect("signed in");
    let calling = Calling::begin(&program);
    calling.some().await;
    let alone = fs::read_to_string(&program.config).expect("there");
    assert_eq!(busy(&clients, EXTRA, 1002).await.expect_err("none yet").code(), Code::NotFound);

    reload(&program, &(alone.clone() + &section(&extra, "")), 1).await;
    sign_in(&clients, EXTRA, 1002).await.expect("signed in");
    busy(&clients, EXTRA, 1002).await.expect("busy");
    assert_eq!(program.said("these changes need a restart of the bridge"), 0);
    let (_, status) = program.ask("GET /status.json", "").await;
    assert!(status.contains("\"tenant\": \"extra.eu\""), "{status}");
    calling.some().await;

    let agent_ids = vec!["1002".into()];
    let request = WatchEventsRequest { tenant_id: EXTRA.into(), agent_ids, ..<_>::default() };
    let watching = clients.events.clone().watch_events(request).await.expect("watching");
    let mut watching = watching.into_inner();
    let begin = watching.message().await.expect("goes on").expect("a message");
    assert!(matches!(begin.what, Some(What::Begin(_))), "{begin:?}");
    // Another connection to the gateway, and another limit. The session stays, and is polled on.
    let lines = "timeouts.idle = \"20s\"\nlimits.calls = 77";
    reload(&program, &(alone.clone() + &section(&extra, lines)), 2).await;
    busy(&clients, EXTRA, 1002).await.expect("busy");
    assert_eq!(asked(&extra, Interface::SignIn).len(), 1, "the session was kept");
    let polls = asked(&extra, Interface::Poll).len();
    within("polls to go on", async {
        while asked(&extra, Interface::Poll).len() < polls + 2 {
            extra.tell(1002, "AgentOther_Rest", None);
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (_, status) = program.ask("GET /status.json", "").await;
    assert!(status.contains("\"limit\": 77"), "{status}");
    calling.some().await;

    reload(&program, &alone, 3).await;
    let gone = busy(&clients, EXTRA, 1002).await.expect_err("gone");
    assert_eq!(gone.code(), Code::NotFound, "{gone:?}");
    let end = within("the watch's end", async {
        loop {
            match watching.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a bare end"),
                Err(status) => return status,
            }
        }
    })
    .await;
    assert_eq!((end.code(), end.message()), (Code::NotFound, gone.message()));
    program.printed("a tenant that was removed has ended").await;
    // As at the end of a bridge without a store.
    assert_eq!(asked(&extra, Interface::SignOut).len(), 1);
    let (_, metrics) = program.ask("GET /metrics", "").await;
    assert!(metrics.contains("tenant=\"acme\"") && !metrics.contains("tenant=\"extra.eu\""));

    // It may come again.
    reload(&program, &(alone + &section(&extra, "")), 4).await;
    sign_in(&clients, EXTRA, 1002).await.expect("signed in again");
    let (_, metrics) = program.ask("GET /metrics", "").await;
    assert!(metrics.contains("tenant=\"extra.eu\""));
    calling.some().await;
    calling.end().await;
    let (code, printed) = {
        program.signal("-TERM");
        program.ended().await
    };
    assert_eq!(code, Some(0), "{printed}");
}

#[tokio::test]
async fn a_tenant_does_not_come_back_before_it_has_ended() {
    let program = start("server.reload_interval = \"1s\"\n", &[]).await;
    let (clients, extra) = (Clients::of(program.grpc), extra_gateway(&program).await);
    let alone = fs::read_to_string(&program.config).expect("there");
    let both = alone.clone() + &section(&extra, "");
    reload(&program, &both, 1).await;
    sign_in(&clients, EXTRA, 1002).await.expect("signed in");

    // Its agent is signed out at the end, which the gateway does not answer.
    extra.freeze();
    reload(&program, &alone, 2).await;
    fs::write(&program.config, &both).expect("written");
    program.printed("is still ending").await;
    let (_, would) = program.ask("GET /reload", "").await;
    assert!(would.contains("is still ending"), "{would}");
    assert_eq!(busy(&clients, EXTRA, 1002).await.expect_err("gone").code(), Code::NotFound);
    assert_eq!(program.said("a tenant that was removed has ended"), 0);

    extra.thaw();
    program.printed("a tenant that was removed has ended").await;
    within("the tenant to come back", async {
        while sign_in(&clients, EXTRA, 1002).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(asked(&extra, Interface::SignOut).len(), 1);
    busy(&clients, EXTRA, 1002).await.expect("it is kept by one alone");
    assert_eq!(program.said("a changed configuration is refused"), 1);
}

/// What `/status.json` says of that tenant.
async fn told(program: &Program) -> Value {
    let (_, status) = program.ask("GET /status.json?tenant=extra.eu", "").await;
    let status: Value = serde_json::from_str(&status).expect("JSON");
    status["tenants"][0].clone()
}

/// Its series in `/metrics` go on where they were.
#[tokio::test]
async fn a_tenant_that_has_come_back_is_as_its_calls_since_then_were() {
    let program = start("server.reload_interval = \"1s\"\n", &[]).await;
    let (clients, extra) = (Clients::of(program.grpc), extra_gateway(&program).await);
    let alone = fs::read_to_string(&program.config).expect("there");
    let both = alone.clone() + &section(&extra, "");
    let retcode = Fault::Retcode { retcode: "100-007".into(), message: "of no avail".into() };
    extra.misbehave(Misbehaviour::always(retcode).on(Interface::SayBusy));
    reload(&program, &both, 1).await;
    sign_in(&clients, EXTRA, 1002).await.expect("signed in");
    for _ in 0..3 {
        busy(&clients, EXTRA, 1002).await.expect_err("it fails");
    }
    let before = told(&program).await;
    assert_eq!(before["verdict"], "failing", "{before}");

    reload(&program, &alone, 2).await;
    program.printed("a tenant that was removed has ended").await;
    reload(&program, &both, 3).await;
    let back = told(&program).await;
    assert_eq!(back["verdict"], "idle", "{back}");
    // The first of its calls with this code.
    sign_in(&clients, EXTRA, 1002).await.expect("signed in");
    busy(&clients, EXTRA, 1002).await.expect_err("it fails");
    let back = told(&program).await;
    let minute = &back["last_minute"];
    assert_eq!((minute["calls"].as_u64(), minute["calls_failed"].as_u64()), (Some(2), Some(1)));
    assert_eq!(back["since_start"]["calls"], 2, "{back}");
}

#[tokio::test]
async fn a_tenant_that_comes_has_its_part_of_the_servers_places() {
    let settings = "server.reload_interval = \"off\"\nserver.limits.calls = 4\n";
    let program = start(settings, &[]).await;
    let (clients, extra) = (Clients::of(program.grpc), extra_gateway(&program).await);
    sign_in(&clients, "acme", 1001).await.expect("signed in");
    let alone = fs::read_to_string(&program.config).expect("there");
    reload(&program, &(alone + &section(&extra, "")), 1).await;
    sign_in(&clients, EXTRA, 1002).await.expect("signed in");
    // All that `acme` can have are taken.
    program.gateway.freeze();
    let hang = |_| {
        let clients = clients.clone();
        tokio::spawn(async move { busy(&clients, "acme", 1001).await })
    };
    let hanging: Vec<_> = (0..10).map(hang).collect();
    within("places to be used up", async {
        while program.metric("ccgw_calls_over_limit_total{tenant=\"acme\"").await < 1.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    busy(&clients, EXTRA, 1002).await.expect("its part is free");
    hanging.iter().for_each(JoinHandle::abort);
    program.gateway.thaw();
}

#[tokio::test]
async fn what_a_gateway_is_trusted_by_and_passwords_are_read_anew_from_their_files() {
    let lines = "server.reload_interval = \"1s\"\n";
    let program = start(lines, &[]).await;
    let (clients, extra) = (Clients::of(program.grpc), extra_gateway(&program).await);
    let other = gateway(Options::default()).await;
    program.site.write("extra.pem", other.certificate_pem());
    program.site.write("extra.toml", "[agents.1002]\npassword = \"not this one\"\n");
    let text = fs::read_to_string(&program.config).expect("there");
    let text = text + &section(&extra, "credentials_file = \"extra.toml\"");
    fs::write(&program.config, text).expect("written");
    program.printed("a changed configuration is in force").await;
    let failed = busy(&clients, EXTRA, 1002).await.expect_err("another CA");
    assert_eq!(failed.code(), Code::Unavailable, "{failed:?}");

    program.site.write("extra.pem", extra.certificate_pem());
    within("the right CA", async {
        loop {
            let failed = busy(&clients, EXTRA, 1002).await.expect_err("a wrong password");
            if failed.code() != Code::Unavailable {
                break assert_eq!(failed.code(), Code::FailedPrecondition, "{failed:?}");
            }
            tokio::task::yield_now().await;
        }
    })
    .await;

    program.site.write("extra.toml", format!("[agents.1002]\npassword = \"{PASSWORD}\"\n"));
    within("the right password", async {
        while busy(&clients, EXTRA, 1002).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(asked(&extra, Interface::SignIn).len(), 2, "each password was tried once");
}

#[tokio::test]
async fn a_tenant_that_cannot_be_built_changes_nothing_at_all() {
    let program = start("server.reload_interval = \"off\"\n", &[]).await;
    let (clients, extra) = (Clients::of(program.grpc), extra_gateway(&program).await);
    sign_in(&clients, "acme", 1001).await.expect("signed in");
    let alone = fs::read_to_string(&program.config).expect("there");
    program.site.write("extra.pem", "no certificate");
    let changed = alone.replace("[tenants.acme]", "[tenants.acme]\nlimits.calls = 77");
    fs::write(&program.config, changed + &section(&extra, "")).expect("written");
    program.signal("-HUP");
    let printed = program.printed("a changed configuration is refused").await;
    assert!(printed.contains("tenants.\\\"extra.eu\\\".tls.ca_file"), "{printed}");
    busy(&clients, "acme", 1001).await.expect("busy");
    let (_, status) = program.ask("GET /status.json", "").await;
    assert!(
        !status.contains("\"limit\": 77") && !status.contains("\"tenant\": \"extra.eu\""),
        "{status}"
    );
}

#[tokio::test]
async fn what_lasts_as_long_as_the_bridge_is_said_to_need_a_restart() {
    let program = start("server.reload_interval = \"off\"\n", &[]).await;
    let text = fs::read_to_string(&program.config).expect("there");
    let lines = "[tenants.acme]\nkeep.enabled = false\nlimits.sessions = 5\nlimits.calls = 77";
    reload(&program, &text.replace("[tenants.acme]", lines), 1).await;
    let printed = program.printed("these changes need a restart of the bridge").await;
    for key in ["tenants.acme.keep.enabled", "tenants.acme.limits.sessions"] {
        assert!(printed.contains(key), "{printed}");
    }
    let clients = Clients::of(program.grpc);
    sign_in(&clients, "acme", 1001).await.expect("signed in");
    within("a poll", async {
        while asked(&program.gateway, Interface::Poll).is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (_, status) = program.ask("GET /status.json", "").await;
    assert!(status.contains("\"limit\": 77"), "{status}");
}

#[tokio::test]
async fn sessions_of_a_tenant_that_came_later_are_in_the_file_of_sessions() {
    let first = setup("server.reload_interval = \"off\"\n");
    let first = ccgateway_test_support::Setup { store: in_file(), ..first };
    let program = start_at(None, &first).await;
    let extra = extra_gateway(&program).await;
    let text = fs::read_to_string(&program.config).expect("there") + &section(&extra, "");
    reload(&program, &text, 1).await;
    sign_in(&Clients::of(program.grpc), EXTRA, 1002).await.expect("signed in");
    let site = program.site.clone();
    program.stop().await;

    let lines = section(&extra, "");
    let second = ccgateway_test_support::Setup { tenant: format!("# more{lines}"), ..first };
    let program = start_at(Some(&site), &second).await;
    busy(&Clients::of(program.grpc), EXTRA, 1002).await.expect("busy");
    assert_eq!(asked(&extra, Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn a_batch_that_is_under_way_when_its_tenant_goes_is_carried_out() {
    let program = start("server.reload_interval = \"off\"\n", &[]).await;
    let (clients, extra) = (Clients::of(program.grpc), extra_gateway(&program).await);
    let alone = fs::read_to_string(&program.config).expect("there");
    // A batch has one request open at a time.
    reload(&program, &(alone.clone() + &section(&extra, "limits.requests = 2")), 1).await;
    for agent in 1002..=1005 {
        sign_in(&clients, EXTRA, agent).await.expect("signed in");
    }
    let slow = Fault::Delay(Duration::from_secs(1));
    extra.misbehave(Misbehaviour::always(slow).on(Interface::SayBusy));
    let request = BatchSetBusyRequest {
        tenant_id: EXTRA.into(),
        agent_ids: (1002..=1005).map(|agent| agent.to_string()).collect(),
        reason: Some(200),
        ..<_>::default()
    };
    let mut states = clients.states.clone();
    let batch = tokio::spawn(async move { states.batch_set_busy(request).await });
    within("the batch to begin", async {
        while asked(&extra, Interface::SayBusy).is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    reload(&program, &alone, 2).await;
    let answer = batch.await.expect("no panic").expect("an answer").into_inner();
    assert_eq!(answer.error_count, 0, "{answer:?}");
    program.printed("a tenant that was removed has ended").await;
    assert_eq!(asked(&extra, Interface::SignOut).len(), 4);
}
