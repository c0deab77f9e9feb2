//! Every point at which one call can fail, alone and in pairs: whatever the caller is told is true.

use ccgateway_bridge::sim::{Entry, Fault, Interface, Misbehaviour, Options};
use tonic::Status;

use crate::{
    lossy::{Loss, LossyProxy, Own},
    support::{Refusal, Setup, TestBridge},
};

/// Where a request fails.
#[derive(Clone, Copy, Debug)]
enum Point {
    Nowhere,
    /// A new connection is closed as soon as it is there.
    Connected,
    /// On the way there or back.
    Lost(Loss),
    /// The gateway refuses it.
    Refused(&'static str),
    /// The gateway carries it out and cuts the connection.
    Cut,
    /// Somebody answers with a login page.
    Page,
}

const POINTS: &[Point] = &[
    Point::Nowhere,
    Point::Connected,
    Point::Lost(Loss::InRequest),
    Point::Lost(Loss::AfterRequest),
    Point::Lost(Loss::Unforwarded(Own { status: 503, retry_after: Some(0) })),
    Point::Lost(Loss::Unforwarded(Own { status: 502, retry_after: None })),
    Point::Lost(Loss::BeforeAnswer),
    Point::Lost(Loss::InAnswer),
    Point::Lost(Loss::Instead(Own { status: 503, retry_after: None })),
    Point::Lost(Loss::AfterAnswer),
    Point::Refused("000-003"),
    Point::Refused("100-006"),
    Point::Refused("000-007"),
    Point::Refused("100-009"),
    Point::Cut,
    Point::Page,
];

/// What is asked for, and what the bridge has to do before it.
#[derive(Clone, Copy, Debug)]
enum Call {
    SetBusy,
    /// For an agent who has to be signed in first.
    FirstSetBusy,
    SignIn,
    SignOut,
}

impl Call {
    /// What the requests that the call is about are recognised by.
    fn target(self, agent: u32) -> String {
        match self {
            Self::SetBusy | Self::FirstSetBusy => format!("/{agent}/saybusy"),
            Self::SignIn => format!("PUT /agentgateway/resource/onlineagent/{agent} "),
            Self::SignOut => format!("/{agent}/logout"),
        }
    }

    fn interface(self) -> Interface {
        match self {
            Self::SetBusy | Self::FirstSetBusy => Interface::SayBusy,
            Self::SignIn => Interface::SignIn,
            Self::SignOut => Interface::SignOut,
        }
    }

    /// Where the first of two faults strikes.
    fn first(self, agent: u32) -> (String, Interface) {
        match self {
            Self::FirstSetBusy => (Self::SignIn.target(agent), Interface::SignIn),
            call => (call.target(agent), call.interface()),
        }
    }
}

struct World {
    proxy: LossyProxy,
    bridge: TestBridge,
}

impl World {
    async fn new(agents: impl Iterator<Item = u32>) -> Self {
        let options = Options { plaintext: true, ..<_>::default() };
        let gateway = TestBridge::gateway(options).await;
        let proxy = LossyProxy::to(gateway.addr()).await;
        let setup = Setup {
            base_url: Some(proxy.base_url()),
            credentials: agents.collect(),
            tenant: "keep.sign_ins_per_second = 10000\n".into(),
            ..<_>::default()
        };
        let bridge = TestBridge::of(gateway, setup).await;
        Self { proxy, bridge }
    }

    fn strike(&self, agent: u32, (target, interface): (String, Interface), point: Point) {
        let gateway = |fault| {
            let rule = Misbehaviour::once(fault).on(interface).of(agent);
            self.bridge.gateway.misbehave(rule);
        };
        match point {
            Point::Nowhere => {}
            Point::Connected => self.proxy.close_next(),
            Point::Lost(loss) => self.proxy.lose(target, loss),
            Point::Refused(retcode) => {
                gateway(Fault::Retcode { retcode: retcode.into(), message: String::new() });
            }
            Point::Cut => gateway(Fault::CutBeforeAnswer),
            Point::Page => gateway(Fault::Html),
        }
    }

    async fn call(&self, call: Call, agent: u32) -> Result<(), Status> {
        match call {
            Call::SetBusy | Call::FirstSetBusy => self.bridge.set_busy(agent).await.map(drop),
            Call::SignIn => self.bridge.sign_in(agent).await.map(drop),
            Call::SignOut => self.bridge.sign_out(agent).await,
        }
    }

    /// One call with two faults, and what it may be told.
    async fn check(&self, call: Call, agent: u32, points: [Point; 2]) {
        let case = format!("{call:?} of {agent} with {points:?}");
        if matches!(call, Call::SetBusy | Call::SignOut) {
            self.bridge.sign_in(agent).await.unwrap_or_else(|error| panic!("{case}: {error:?}"));
        }
        let target = call.target(agent);
        // The latest rule wins at the gateway, and the first one at the proxy.
        let [first, second] = points;
        if matches!((first, second), (Point::Lost(_), _)) {
            self.strike(agent, call.first(agent), first);
            self.strike(agent, (target.clone(), call.interface()), second);
        } else {
            self.strike(agent, (target.clone(), call.interface()), second);
            self.strike(agent, call.first(agent), first);
        }
        let before = self.proxy.seen(&target).len();
        let result = self.call(call, agent).await;
        self.proxy.behave();
        self.bridge.gateway.behave();

        let sent = &self.proxy.seen(&target)[before..];
        let applied = self.applied(call, agent);
        assert!(applied <= 1, "{case}: carried out {applied} times");
        // A request is written again only where the one before was refused.
        for earlier in sent.iter().rev().skip(1) {
            let refused = earlier.answer.contains("\"retcode\"")
                && !earlier.answer.contains("\"retcode\":\"0\"");
            assert!(refused, "{case}: repeated after {earlier:?}");
        }
        match result {
            Ok(()) => assert_eq!(applied, 1, "{case}: accepted"),
            Err(status) => {
                let refusal = Refusal::from(status);
                match refusal.metadata["outcome"].as_str() {
                    "not_sent" => assert!(sent.is_empty(), "{case}: not sent, but {sent:?}"),
                    "refused" => assert_eq!(applied, 0, "{case}: {}", refusal.message),
                    outcome => assert_eq!(outcome, "unknown", "{case}"),
                }
            }
        }
    }

    /// How often the gateway has done what this call is about.
    fn applied(&self, call: Call, agent: u32) -> usize {
        let journal = self.bridge.gateway.journal();
        let of_call = |entry: &&Entry| {
            entry.interface == Some(call.interface()) && entry.agent == Some(agent)
        };
        let applied = journal.iter().filter(of_call).filter(|entry| {
            let answer = entry.answer.as_ref().expect("answered");
            answer.retcode.as_deref() == Some("0") || answer.fault == Some("cut-before-answer")
        });
        applied.count()
    }
}

async fn all_pairs(call: Call) {
    let pairs = POINTS.iter().flat_map(|first| POINTS.iter().map(move |second| [*first, *second]));
    let cases: Vec<(u32, [Point; 2])> = (1001..).zip(pairs).collect();
    let world = World::new(cases.iter().map(|(agent, _)| *agent)).await;
    for (agent, points) in cases {
        world.check(call, agent, points).await;
    }
}

#[tokio::test]
async fn a_change_is_told_as_it_was_whatever_fails() {
    all_pairs(Call::SetBusy).await;
}

#[tokio::test]
async fn a_change_with_a_sign_in_before_it_is_told_as_it_was_whatever_fails() {
    all_pairs(Call::FirstSetBusy).await;
}

#[tokio::test]
async fn a_sign_in_is_told_as_it_was_whatever_fails() {
    all_pairs(Call::SignIn).await;
}

#[tokio::test]
async fn a_sign_out_is_told_as_it_was_whatever_fails() {
    all_pairs(Call::SignOut).await;
}
