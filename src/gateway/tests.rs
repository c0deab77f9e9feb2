//! What becomes of requests whose gateway is simulated, or cannot be reached.

use std::{num::NonZeroUsize, time::Duration};

use ccgateway_sim::{Fault, Misbehaviour, Options, Simulator};
use tokio::net::TcpSocket;

use super::*;
use crate::{
    call::{Cutoff, Share},
    config::{Breaker, Config, Sources, load},
    telemetry::{
        metrics::{Format, Metrics},
        trace::Trace,
    },
};

/// The client of a tenant's gateway, with the metrics that it counts in.
struct Client {
    gateway: Gateway,
    metrics: Metrics,
}

/// A place whose holder is shown what each request tells.
#[derive(Default)]
struct Told(Vec<(usize, usize, Sample)>);

impl Seat for Told {
    async fn move_to(&mut self, _address: usize) -> Result<(), Obstacle> {
        Ok(())
    }

    fn may_repeat(&mut self) -> bool {
        true
    }

    fn given_up(&mut self, _closing: Closing) {}

    fn note(&mut self, address: usize, interface: usize, sample: Sample) {
        self.0.push((address, interface, sample));
    }
}

/// No place.
struct Full;

impl Seat for Full {
    async fn move_to(&mut self, _address: usize) -> Result<(), Obstacle> {
        Err(Obstacle::Overloaded { share: Share::TenantRequests, limit: NonZeroUsize::MIN })
    }

    fn may_repeat(&mut self) -> bool {
        true
    }

    fn given_up(&mut self, _closing: Closing) {}

    fn note(&mut self, _address: usize, _interface: usize, _sample: Sample) {}
}

/// An address that trips at its first failure stays so for the whole test.
const BREAKER: Breaker = Breaker { failures: 1, pause: HOUR, pause_max: HOUR };
const HOUR: Duration = Duration::from_secs(60 * 60);

impl Client {
    fn of(base_urls: &str, auth_mode: &str) -> Self {
        let sources = Sources::default()
            .with_flag("--test", "tenants.acme.base_urls", base_urls)
            .with_flag("--test", "tenants.acme.auth_mode", auth_mode);
        let Config { mut tenants, .. } = load(&sources).unwrap_or_else(|errors| panic!("{errors}"));
        let (id, mut tenant) = tenants.pop_first().expect("a tenant");
        tenant.breaker = BREAKER;
        let metrics = Metrics::new(&[], &[]);
        let gateway = Gateway::new(&id, &tenant, &metrics.requests, &SystemRoots::default())
            .expect("a client");
        Self { gateway, metrics }
    }

    async fn ask(
        &self,
        interface: &'static Interface,
        stage: Stage,
        seat: &mut impl Seat,
    ) -> Result<Reply, CallError> {
        let command = Command::plain(interface);
        let (session, body, trace) = (None, None, Trace::default());
        let request = Request { command: &command, agent: agent(), session, body, stage, trace };
        let mut caller_wait = CallerWait::of_bridge(Cutoff::default());
        self.gateway.exchange(request, &mut caller_wait, seat, Untouched::at_the_start()).await
    }

    /// How many requests have had this result; `None`: there is no series for it.
    fn counted(&self, interface: &Interface, result: &str) -> Option<u64> {
        let text = self.metrics.text(Format::OpenMetrics).expect("metrics");
        let labels = format!("interface=\"{}\",result=\"{result}\"", interface.log_name);
        let line = text.lines().find(|line| line.contains(&labels))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

fn agent() -> AgentId {
    AgentId::lowest(&(1001..=1001))
}

async fn simulator() -> Simulator {
    let options = Options { plaintext: true, ..Options::default() };
    Simulator::start(options).await.expect("a gateway")
}

/// The gateway accepts everything, and answers with this Guid.
fn accepting(guid: Option<&str>) -> Misbehaviour {
    let headers = guid.map(|guid| ("Set-GUID".to_owned(), format!("JSESSIONID={guid}")));
    Misbehaviour::always(Fault::Status {
        status: 200,
        headers: headers.into_iter().collect(),
        body: br#"{"retcode":"0"}"#.to_vec(),
        content_type: "application/json".into(),
    })
}

/// The URL of a gateway that refuses connections, as long as the socket is there.
fn refusing() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let addr = socket.local_addr().expect("an address");
    (socket, format!("http://{addr}"))
}

#[tokio::test]
async fn an_accepted_sign_in_without_a_guid_is_counted_as_one_where_the_gateway_has_guids() {
    let simulator = simulator().await;
    for (auth_mode, guid, interface, expected) in [
        ("dynamic", None, &SIGN_IN, "no_guid"),
        ("dynamic", None, &FORCE_SIGN_IN, "no_guid"),
        ("dynamic", Some("a.AgentGateway1"), &SIGN_IN, "ok"),
        ("dynamic", None, &SIGN_OUT, "ok"),
        ("none", None, &SIGN_IN, "ok"),
    ] {
        simulator.behave();
        simulator.misbehave(accepting(guid));
        let client = Client::of(&simulator.base_url(), auth_mode);
        client.ask(interface, Stage::Answer, &mut NoSeat).await.expect("accepted");
        for result in ["ok", "no_guid"] {
            let count = client.counted(interface, result).unwrap_or_default();
            assert_eq!(count, u64::from(result == expected), "{auth_mode} {guid:?} {result}");
        }
    }
}

#[tokio::test]
async fn while_no_address_can_be_reached_few_requests_try_it_but_all_polls_and_questions() {
    let (_socket, url) = refusing();
    let client = Client::of(&url, "dynamic");
    for (interface, stage, is_tried) in [
        // The first one trips it, and then there is one in each part of a pause.
        (&SAY_BUSY, Stage::Answer, true),
        (&SAY_BUSY, Stage::Answer, true),
        (&SAY_BUSY, Stage::Answer, false),
        (&AGENT_STATUS, Stage::ReadBack, true),
        (&POLL, Stage::Answer, true),
        (&AGENT_STATUS, Stage::Answer, false),
        (&AGENT_STATUS, Stage::ReadBack, true),
    ] {
        let error = client.ask(interface, stage, &mut NoSeat).await.expect_err("unreachable");
        assert!(matches!(error.obstacle(), Some(Obstacle::Unreachable { .. })), "{error}");
        assert_ne!(error.to_string().contains("not asked again so soon"), is_tried, "{error}");
    }
    assert_eq!(client.counted(&SAY_BUSY, "unreachable"), Some(3));
    assert_eq!(client.counted(&SAY_BUSY, "given_up"), Some(0));
}

#[tokio::test]
async fn a_request_goes_on_to_the_next_address_and_the_following_ones_begin_there() {
    let ((_socket, refusing), simulator) = (refusing(), simulator().await);
    simulator.misbehave(accepting(None));
    let client = Client::of(&format!("{refusing},{}", simulator.base_url()), "dynamic");
    let gateway = &client.gateway;
    let first = || (gateway.current(agent()), gateway.knows_all_sessions(0));
    assert_eq!(first(), (0, true));
    client.ask(&SAY_BUSY, Stage::Answer, &mut NoSeat).await.expect("accepted");
    assert_eq!(first(), (1, false));
    assert!(gateway.prober.get().is_some(), "the first one is asked whether it is back");
    let addresses = gateway.addresses();
    let [before, now] = &addresses[..] else { panic!("{addresses:?}") };
    assert_eq!(format!("http://{}", before.host), refusing);
    assert!(before.failed_last && before.answered.is_none(), "{before:?}");
    assert!(now.in_use && !now.failed_last && now.answered.is_some(), "{now:?}");
}

#[tokio::test]
async fn what_a_host_bears_is_told_by_requests_and_not_by_polls_or_sign_ins() {
    let simulator = simulator().await;
    simulator.misbehave(accepting(None));
    let (client, mut told) = (Client::of(&simulator.base_url(), "dynamic"), Told::default());
    for interface in [&SAY_BUSY, &POLL, &SIGN_IN] {
        client.ask(interface, Stage::Answer, &mut told).await.expect("accepted");
    }
    assert!(client.gateway.prober.get().is_none(), "nobody has to be asked whether it is back");
    simulator.misbehave(Misbehaviour::always(Fault::CutBeforeAnswer));
    client.ask(&SAY_BUSY, Stage::Answer, &mut told).await.expect_err("no answer");
    let is_too_much = |sample| sample == Sample::TooMuch;
    let told = told.0.into_iter().map(|(at, by, sample)| (at, by, is_too_much(sample)));
    let number = SAY_BUSY.number();
    assert_eq!(told.collect::<Vec<_>>(), [(0, number, false), (0, number, true)]);
}

#[tokio::test]
async fn nothing_is_sent_without_a_place() {
    let simulator = simulator().await;
    simulator.misbehave(accepting(None));
    let client = Client::of(&simulator.base_url(), "dynamic");
    let error = client.ask(&SAY_BUSY, Stage::Answer, &mut Full).await.expect_err("no place");
    assert!(matches!(error.obstacle(), Some(Obstacle::Overloaded { .. })), "{error}");
    assert_eq!(simulator.journal().len(), 0);
}
