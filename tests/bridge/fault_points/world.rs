//! A bridge whose requests fail, and what its callers may be told.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::{SetBusyRequest, SignInRequest, SignOutRequest};
use ccgateway_sim::{Entry, Fault, Interface, Misbehaviour, Options, Simulator};
use ccgateway_test_support::{
    Clients, PASSWORD, Refusal, Setup, TestBridge, gateway,
    lossy::{LossyProxy, Seen},
};
use tonic::{Request, Response, Status};

use super::points::{Call, Point};

/// What is around a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    /// Whether a request may go over the connection of the one before it.
    pub(super) keeps_connections: bool,
    /// Whether the gateway has two addresses.
    pub(super) has_standby: bool,
    /// More lines of the configuration.
    pub(super) more: &'static str,
}

/// How long an idle connection is kept where none is to be used again.
const IDLE: Duration = Duration::from_millis(1);

pub(super) struct World {
    pub(super) proxy: LossyProxy,
    pub(super) bridge: TestBridge,
    setting: Setting,
    _second: Option<LossyProxy>,
}

/// What a caller was told, and what the proxy had seen by then.
pub(super) struct Told {
    pub(super) result: Result<(), Status>,
    pub(super) sent: Vec<Seen>,
}

impl Default for Setting {
    fn default() -> Self {
        Self { keeps_connections: true, has_standby: false, more: "" }
    }
}

impl World {
    pub(super) async fn new(setting: Setting, agents: impl Iterator<Item = u32>) -> Self {
        Self::with(setting, String::new(), agents).await
    }

    /// One with these lines of `[store]`.
    pub(super) async fn with(
        setting: Setting,
        store: String,
        agents: impl Iterator<Item = u32>,
    ) -> Self {
        let options = Options { plaintext: true, journal: 100_000, ..<_>::default() };
        let gateway = gateway(options).await;
        let proxy = LossyProxy::to(gateway.addr()).await;
        let second = if setting.has_standby { Some(proxy.second().await) } else { None };
        let idle = format!("timeouts.idle = \"{}ms\"\n", IDLE.as_millis());
        let idle = if setting.keeps_connections { "" } else { &*idle };
        let setup = Setup {
            base_url: Some(proxy.base_url()),
            standby: second.as_ref().map(LossyProxy::base_url),
            credentials: agents.collect(),
            store,
            // Every call is to meet its fault, however many have failed before.
            tenant: format!(
                "breaker.failures = 0\ntimeouts.settle = \"50ms\"\nkeep.sign_ins_per_second = 10000\nlimits.sessions = 10000\n{idle}{}",
                setting.more
            ),
            ..<_>::default()
        };
        let bridge = TestBridge::of(gateway, setup).await;
        Self { proxy, bridge, setting, _second: second }
    }

    /// Has the first two requests of a call fail at these points. Where the proxy loses an answer of
    /// the gateway's, a second fault at the gateway strikes the same request.
    pub(super) fn strike(&self, call: Call, agent: u32, points: [Point; 2]) {
        let [first, second] = points;
        let ((of_first, at_first), of_second) = (call.first(agent), call.target(agent));
        let after = usize::from(first.is_at_gateway() && of_first == of_second);
        // The latest rule wins at the gateway, and the first one at the proxy.
        self.strike_at_gateway(agent, call.interface(), second);
        self.strike_at_gateway(agent, at_first, first);
        self.strike_before_it(&of_first, first, 0);
        self.strike_before_it(&of_second, second, after);
    }

    fn strike_at_gateway(&self, agent: u32, interface: Interface, point: Point) {
        let fault = match point {
            Point::Refused(retcode) => {
                Fault::Retcode { retcode: retcode.into(), message: String::new() }
            }
            Point::Cut => Fault::CutBeforeAnswer,
            Point::Page => Fault::Html,
            Point::Nowhere | Point::Connected | Point::Lost(_) => return,
        };
        self.bridge.gateway.misbehave(Misbehaviour::once(fault).on(interface).of(agent));
    }

    fn strike_before_it(&self, target: &str, point: Point, after: usize) {
        match point {
            Point::Connected => self.proxy.close_next(),
            Point::Lost(loss) => self.proxy.lose_after(after, target, loss),
            _ => {}
        }
    }

    /// Makes a call, with this deadline.
    pub(super) async fn call(
        &self,
        call: Call,
        agent: u32,
        deadline: Option<Duration>,
    ) -> Result<(), Status> {
        let (agent_id, Clients { states, sessions, .. }) = (agent.to_string(), &*self.bridge);
        let password = Some(PASSWORD.to_owned());
        match call {
            Call::SetBusy | Call::FirstSetBusy => {
                let message = SetBusyRequest { agent_id, reason: Some(200), ..<_>::default() };
                done(states.clone().set_busy(timed(message, deadline)).await)
            }
            Call::SignIn => {
                let message = SignInRequest { agent_id, password, ..<_>::default() };
                done(sessions.clone().sign_in(timed(message, deadline)).await)
            }
            Call::SignOut => {
                let message = SignOutRequest { agent_id, ..<_>::default() };
                done(sessions.clone().sign_out(timed(message, deadline)).await)
            }
        }
    }

    /// Makes a call, with what has to come before it.
    pub(super) async fn told(
        &self,
        call: Call,
        agent: u32,
        points: [Point; 2],
        deadline: Option<Duration>,
    ) -> Told {
        let target = call.target(agent);
        if call.needs_session() {
            let signed_in = self.bridge.sign_in(agent).await;
            signed_in.unwrap_or_else(|error| panic!("{call:?} of {agent}: {error:?}"));
        }
        if !self.setting.keeps_connections {
            // However fast the machine is, the last connection is too old to be used again.
            tokio::time::sleep(IDLE * 2).await;
        }
        self.strike(call, agent, points);
        let before = self.proxy.seen(&target).len();
        let result = self.call(call, agent, deadline).await;
        Told { result, sent: self.proxy.seen(&target).split_off(before) }
    }

    /// One call with two faults, and what it may be told.
    pub(super) async fn check(&self, call: Call, agent: u32, points: [Point; 2]) {
        let case = format!("{call:?} of {agent} with {points:?} in {:?}", self.setting);
        let told = self.told(call, agent, points, None).await;
        let to_close = self.proxy.to_close();
        self.proxy.behave();
        self.bridge.gateway.behave();
        if points[0] == Point::Connected && !self.setting.keeps_connections {
            let closed = points.iter().filter(|point| **point == Point::Connected).count();
            assert!(to_close < closed, "{case}: no connection was closed");
        }
        told.check(&case, self.applied(call, agent));
    }

    pub(super) fn applied(&self, call: Call, agent: u32) -> usize {
        applied(&self.bridge.gateway, call, agent)
    }
}

/// How often the gateway has done what this call is about.
pub(super) fn applied(gateway: &Simulator, call: Call, agent: u32) -> usize {
    let journal = gateway.journal();
    let of_call =
        |entry: &&Entry| entry.interface == Some(call.interface()) && entry.agent == Some(agent);
    let applied = journal.iter().filter(of_call).filter(|entry| {
        let answer = entry.answer.as_ref().expect("answered");
        answer.retcode.as_deref() == Some("0") || answer.fault == Some("cut-before-answer")
    });
    applied.count()
}

impl Told {
    /// The outcome that the caller was told; `None`: it was accepted.
    pub(super) fn outcome(&self) -> Option<String> {
        let status = self.result.as_ref().err()?;
        Some(Refusal::from(status.clone()).metadata["outcome"].clone())
    }

    /// Whether this is true where the gateway has done it so often.
    pub(super) fn check(&self, case: &str, applied: usize) {
        let (sent, told) = (&self.sent, &self.result);
        assert!(applied <= 1, "{case}: carried out {applied} times");
        // A request is written again only where the one before was refused.
        for earlier in sent.iter().rev().skip(1) {
            let refused = earlier.answer.contains("\"retcode\"")
                && !earlier.answer.contains("\"retcode\":\"0\"");
            assert!(refused, "{case}: repeated after {earlier:?}");
        }
        match self.outcome().as_deref() {
            None => assert_eq!(applied, 1, "{case}: accepted"),
            Some("not_sent") => assert!(sent.is_empty(), "{case}: not sent, but {sent:?}"),
            Some("refused" | "not_applied") => assert_eq!(applied, 0, "{case}: {told:?}"),
            outcome => assert_eq!(outcome, Some("unknown"), "{case}"),
        }
    }
}

fn timed<T>(message: T, deadline: Option<Duration>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(deadline) = deadline {
        request.set_timeout(deadline);
    }
    request
}

fn done<T>(answer: Result<Response<T>, Status>) -> Result<(), Status> {
    answer.map(drop)
}
