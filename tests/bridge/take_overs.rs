//! Another client takes the bridge's agents over, again and again.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::{
    SessionChange, SessionState, SignInRequest, watch_events_response::What,
};
use ccgateway_sim::{Interface, Options, Simulator};
use ccgateway_test_support::{AGENT, PASSWORD, Setup, TestBridge, refused, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};
use tonic::Code;

/// A bridge that takes an agent back twice, and another client that takes it over at each chance.
struct Fight {
    bridge: TestBridge,
    /// The Guid of the other client's session.
    rival: Option<String>,
}

impl Fight {
    async fn begin(force: bool, tells: bool) -> Self {
        Self::at(Options { take_over_event: tells, ..<_>::default() }, force).await
    }

    async fn at(gateway: Options, force: bool) -> Self {
        let tenant = "keep.pause_min = \"5ms\"\nkeep.pause_max = \"10ms\"\n\
                      keep.take_backs = 2\nkeep.take_back_pause = \"1s\"\n"
            .into();
        // Only the credentials file lets the bridge use force by itself.
        let forced = if force { vec![AGENT] } else { Vec::new() };
        let credentials = forced.clone();
        let setup = Setup { gateway, tenant, credentials, forced, keep: true, ..<_>::default() };
        let bridge = Box::pin(TestBridge::with(setup)).await;
        let fight = Self { bridge, rival: None };
        fight.sign_in(force).await;
        fight
    }

    async fn sign_in(&self, force: bool) {
        let (agent_id, password) = (AGENT.to_string(), Some(PASSWORD.into()));
        let request = SignInRequest { agent_id, password, force, ..<_>::default() };
        self.bridge.sessions.clone().sign_in(request).await.expect("signed in");
    }

    fn guid(&self) -> Option<String> {
        self.bridge.gateway.agent(AGENT).and_then(|agent| agent.guid)
    }

    /// The other client takes the agent, unless it has it.
    fn rival_acts(&mut self) {
        if self.rival.is_none() || self.guid() != self.rival {
            self.rival = self.bridge.gateway.take_over(AGENT);
        }
    }

    /// Goes on until the bridge has given the agent up; gives what watchers were told of it.
    async fn until_given_up(&mut self) -> Vec<SessionChange> {
        let mut watching = self.bridge.watch(&[AGENT], None).await;
        let mut told = Vec::new();
        let end = Instant::now() + Duration::from_secs(30);
        while told.last().is_none_or(|change: &SessionChange| change.state() != SessionState::Lost)
        {
            assert!(Instant::now() < end, "the fight goes on: {told:?}");
            self.rival_acts();
            let look = Duration::from_millis(20);
            let Ok(message) = timeout(look, watching.next()).await else { continue };
            if let Some(What::SessionChange(change)) = message.what {
                told.push(change);
            }
        }
        told
    }

    async fn given_up(&self) -> String {
        count(&self.bridge, "ccgw_agents_given_up{tenant=\"acme\"}").await
    }
}

async fn count(bridge: &TestBridge, series: &str) -> String {
    bridge.scrape().await[series].to_string()
}

fn states(told: &[SessionChange]) -> Vec<SessionState> {
    told.iter().map(SessionChange::state).collect()
}

/// With force the bridge takes the agent back so often, and then gives way.
async fn ends_although_forced(tells: bool, cause: &str) {
    let mut fight = Fight::begin(true, tells).await;
    let told = fight.until_given_up().await;
    let bridge = &fight.bridge;
    assert_eq!(bridge.asked(Interface::ForceSignIn).len(), 2, "taken back twice");
    let kept = states(&told).into_iter().filter(|state| *state == SessionState::Kept).count();
    assert_eq!(kept, 2, "{told:?}");
    assert!(told.iter().any(|change| change.description.contains(cause)), "{told:?}");
    let end = "it was lost again and again, mostly to another client";
    assert_eq!(told[told.len() - 1].description, end);
    let taken_back = "ccgw_take_overs_total{tenant=\"acme\",result=\"taken_back\"}";
    assert_eq!(count(bridge, taken_back).await, "2");
    assert_eq!(fight.given_up().await, "1");

    bridge.gateway.clear_journal();
    let refusal = refused(
        bridge.set_busy(AGENT).await,
        Code::FailedPrecondition,
        "AGENT_TAKEN_OVER",
        "not_sent",
    );
    assert!(refusal.message.contains("another client"), "{}", refusal.message);
    assert!(bridge.asked(Interface::SayBusy).is_empty(), "nothing was sent");
    assert!(bridge.asked(Interface::SignIn).is_empty(), "nothing was sent");
    let (_, page) = bridge.ask("GET /").await;
    assert!(page.contains("given up to another client") && page.contains("1001"), "{page}");
    let (_, json) = bridge.ask("GET /status.json").await;
    let status: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let taken_over = &status["tenants"][0]["taken_over"];
    let expected = serde_json::json!([{ "agent": "1001", "attempts": 2, "given_up": true }]);
    assert_eq!(*taken_over, expected);

    // An explicit sign-in decides who gets the agent.
    fight.sign_in(true).await;
    fight.bridge.set_busy(AGENT).await.expect("the agent is the bridge's");
    assert_eq!(fight.given_up().await, "0");
}

#[tokio::test]
async fn a_fight_with_a_client_that_takes_over_by_force_ends() {
    ends_although_forced(true, "AgentOther_ShutdownService").await;
}

#[tokio::test]
async fn a_fight_ends_if_the_gateway_reports_it_only_by_refusals() {
    ends_although_forced(false, "000-003").await;
}

#[tokio::test]
async fn without_force_the_bridge_asks_a_few_times_for_an_agent_that_another_client_has() {
    let mut fight = Fight::begin(false, true).await;
    fight.bridge.gateway.clear_journal();
    let told = fight.until_given_up().await;
    assert_eq!(states(&told), [SessionState::Recovering, SessionState::Lost], "{told:?}");
    assert_eq!(fight.bridge.asked(Interface::SignIn).len(), 2);
    assert_eq!(fight.bridge.asked(Interface::ForceSignIn).len(), 0);
    let refused = "ccgw_take_overs_total{tenant=\"acme\",result=\"refused\"}";
    assert_eq!(count(&fight.bridge, refused).await, "2");
    assert_eq!(fight.given_up().await, "1");
}

/// Not even once: a person who takes the agent back has to be left in peace.
#[tokio::test]
async fn a_sign_in_by_force_lets_the_bridge_use_no_force_by_itself() {
    let mut fight = Fight::begin(false, true).await;
    fight.sign_in(true).await;
    fight.bridge.gateway.clear_journal();
    let told = fight.until_given_up().await;
    assert_eq!(states(&told), [SessionState::Recovering, SessionState::Lost], "{told:?}");
    assert_eq!(fight.bridge.asked(Interface::ForceSignIn).len(), 0);
}

#[tokio::test]
async fn an_agent_is_signed_in_again_after_the_other_client_has_left_it() {
    let mut fight = Fight::begin(false, true).await;
    fight.bridge.gateway.clear_journal();
    fight.rival_acts();
    until("the first attempt", || !fight.bridge.asked(Interface::SignIn).is_empty()).await;
    fight.bridge.gateway.sign_out(AGENT);
    let is_back = || {
        let agent = fight.bridge.gateway.agent(AGENT);
        agent.is_some_and(|agent| agent.signed_in && agent.guid != fight.rival)
    };
    until("the agent is back", is_back).await;
    fight.bridge.set_busy(AGENT).await.expect("kept");
}

#[tokio::test]
async fn a_gateway_that_allows_no_force_is_asked_a_few_times_too() {
    let gateway = Options { force_sign_in: false, ..<_>::default() };
    let mut fight = Fight::at(gateway, true).await;
    fight.bridge.gateway.clear_journal();
    let told = fight.until_given_up().await;
    assert_eq!(states(&told), [SessionState::Recovering, SessionState::Lost], "{told:?}");
    assert_eq!(fight.bridge.asked(Interface::SignIn).len(), 2);
    assert_eq!(fight.bridge.asked(Interface::ForceSignIn).len(), 0);
}

#[tokio::test]
async fn an_agent_that_is_signed_out_again_and_again_is_signed_in_ever_more_slowly() {
    let fight = Fight::begin(false, false).await;
    fight.bridge.gateway.clear_journal();
    // The first recovery comes at once, the second a second later, the third two seconds later.
    let end = Instant::now() + Duration::from_millis(2500);
    while Instant::now() < end {
        fight.bridge.gateway.sign_out(AGENT);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let sign_ins = fight.bridge.asked(Interface::SignIn).len();
    assert!((1..=2).contains(&sign_ins), "{sign_ins} sign-ins");
}

#[tokio::test]
async fn an_agent_that_was_given_up_works_again_after_the_other_client_has_left() {
    let mut fight = Fight::begin(false, true).await;
    let _told = fight.until_given_up().await;
    assert_eq!(fight.given_up().await, "1");
    fight.bridge.gateway.sign_out(AGENT);
    let back = async {
        while fight.bridge.set_busy(AGENT).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), back).await.expect("a call makes the bridge try again");
    assert_eq!(fight.given_up().await, "0");
}

/// Polls for the agent with this Guid until the gateway refuses it, without a pause, as the vendor's clients do.
async fn poll_on(gateway: Simulator, guid: String) {
    loop {
        let mut stream = TcpStream::connect(gateway.addr()).await.expect("connected");
        let request = format!(
            "GET /agentgateway/resource/agentevent/{AGENT} HTTP/1.1\r\nHost: gateway\r\nGuid: {guid}\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        if answer.contains("000-003") {
            return;
        }
    }
}

/// A bridge whose polls are refused for another one before their Guid is looked at. It pauses for so long
/// that the other client's poll is open first.
async fn contested(poll_wait: Duration) -> TestBridge {
    let gateway = Options {
        plaintext: true,
        repeats_before_guid: true,
        take_over_event: false,
        poll_wait,
        ..<_>::default()
    };
    let tenant = "keep.pause_min = \"1s\"\nkeep.pause_max = \"1s\"\n".into();
    let bridge = TestBridge::with(Setup { gateway, tenant, keep: true, ..<_>::default() }).await;
    bridge.sign_in(AGENT).await.expect("signed in");
    until("it polls", || !bridge.asked(Interface::Poll).is_empty()).await;
    bridge
}

/// Without the question whose the agent is, it would take a minute: no event tells of the take-over, and the
/// other client's poll is open nearly all the time.
#[tokio::test]
async fn a_take_over_is_noticed_although_each_poll_is_refused_for_the_other_clients() {
    let bridge = contested(Duration::from_secs(600)).await;
    let mut watching = bridge.watch(&[AGENT], None).await;
    let rival = bridge.gateway.take_over(AGENT).expect("signed in");
    let polling = tokio::spawn(poll_on(bridge.gateway.clone(), rival));
    let noticed = async {
        loop {
            if let Some(What::SessionChange(change)) = watching.next().await.what
                && change.state() == SessionState::Recovering
            {
                return change.description;
            }
        }
    };
    let cause = timeout(Duration::from_secs(60), noticed).await.expect("long before the poll ends");
    assert!(cause.contains("000-003"), "{cause}");
    // Its Guid was refused once and, in case that crossed a renewal, once more.
    assert_eq!(bridge.asked(Interface::AgentStatus).len(), 2);
    polling.abort();
}

#[tokio::test]
async fn another_poll_with_the_same_guid_is_no_take_over() {
    let bridge = contested(Duration::from_millis(100)).await;
    let guid = bridge.gateway.agent(AGENT).and_then(|agent| agent.guid).expect("signed in");
    let polling = tokio::spawn(poll_on(bridge.gateway.clone(), guid));
    until("it is asked", || !bridge.asked(Interface::AgentStatus).is_empty()).await;
    let refused = || {
        let polls = bridge.asked(Interface::Poll);
        let of_bridge = |entry: &&ccgateway_sim::Entry| entry.header("connection").is_none();
        polls.iter().filter(of_bridge).count()
    };
    let before = refused();
    until("it polls on", || refused() >= before + 3).await;
    assert_eq!(bridge.session(AGENT).await.state(), SessionState::Kept);
    assert_eq!(bridge.asked(Interface::SignIn).len(), 1);
    polling.abort();
}
