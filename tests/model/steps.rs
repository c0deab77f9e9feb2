//! The steps that can be done with an agent, and the generation of random sequences of them.

use std::borrow::Cow;

use ccgateway_bridge::rpc::proto::{
    ActivityState, GetStateRequest, SignInRequest, SignOutRequest, sign_in_request,
};
use ccgateway_test_support::{self as support, PASSWORD, TestBridge, changes::Change};
use proptest::prelude::*;
use tonic::{Code, Status};

pub(crate) use sign_in_request::InitialState;

/// One step of a sequence.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    SignIn {
        initial: InitialState,
        auto_idle: Option<bool>,
        force: bool,
    },
    SignOut {
        force: bool,
    },
    Change(Change),
    GetState,
    /// A call reaches the agent.
    StartCall,
    /// The agent's call ends.
    EndCall,
}

/// A step without its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    SignIn,
    SignOut,
    SetBusy,
    CancelBusy,
    SetIdle,
    SetAfterCallWork,
    CancelAfterCallWork,
    SetResting,
    CancelResting,
    GetState,
    StartCall,
    EndCall,
}

/// How a call fails.
#[derive(Debug, PartialEq)]
pub(crate) struct Refusal {
    code: Code,
    reason: Cow<'static, str>,
    /// Empty where the gateway was not asked.
    retcode: Cow<'static, str>,
    outcome: Cow<'static, str>,
}

/// What a step is answered with; the state with its number and "in a call" where it was asked for.
pub(crate) type Answer = Result<Option<(ActivityState, i32, Option<bool>)>, Refusal>;

impl Kind {
    pub(crate) const ALL: [Self; 12] = [
        Self::SignIn,
        Self::SignOut,
        Self::SetBusy,
        Self::CancelBusy,
        Self::SetIdle,
        Self::SetAfterCallWork,
        Self::CancelAfterCallWork,
        Self::SetResting,
        Self::CancelResting,
        Self::GetState,
        Self::StartCall,
        Self::EndCall,
    ];
}

impl Step {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::SignIn { .. } => Kind::SignIn,
            Self::SignOut { .. } => Kind::SignOut,
            Self::Change(Change::SetBusy { .. }) => Kind::SetBusy,
            Self::Change(Change::CancelBusy) => Kind::CancelBusy,
            Self::Change(Change::SetIdle) => Kind::SetIdle,
            Self::Change(Change::SetAfterCallWork) => Kind::SetAfterCallWork,
            Self::Change(Change::CancelAfterCallWork) => Kind::CancelAfterCallWork,
            Self::Change(Change::SetResting { .. }) => Kind::SetResting,
            Self::Change(Change::CancelResting) => Kind::CancelResting,
            Self::GetState => Kind::GetState,
            Self::StartCall => Kind::StartCall,
            Self::EndCall => Kind::EndCall,
        }
    }

    /// Takes the step.
    pub(crate) async fn take(&self, bridge: &TestBridge, agent: u32) -> Answer {
        let answered = match *self {
            Self::SignIn { initial, auto_idle, force } => {
                let request = SignInRequest {
                    agent_id: agent.to_string(),
                    password: Some(PASSWORD.into()),
                    initial_state: initial.into(),
                    auto_enter_idle: auto_idle,
                    force,
                    ..<_>::default()
                };
                bridge.sessions.clone().sign_in(request).await.map(|_| None)
            }
            Self::SignOut { force } => {
                let agent_id = agent.to_string();
                let request = SignOutRequest { agent_id, force, ..<_>::default() };
                bridge.sessions.clone().sign_out(request).await.map(|_| None)
            }
            Self::Change(change) => change.ask(&bridge.states, agent).await.map(|_| None),
            Self::GetState => {
                let request = GetStateRequest { agent_id: agent.to_string(), ..<_>::default() };
                bridge.states.clone().get_state(request).await.map(|told| {
                    let told = told.into_inner();
                    Some((told.state(), told.code, told.in_call))
                })
            }
            Self::StartCall => {
                bridge.gateway.start_call(agent);
                Ok(None)
            }
            Self::EndCall => {
                bridge.gateway.end_call(agent);
                Ok(None)
            }
        };
        answered.map_err(Refusal::from)
    }
}

impl Refusal {
    /// The gateway's own.
    pub(crate) const fn refused(code: Code, reason: &'static str, retcode: &'static str) -> Self {
        let (reason, retcode) = (Cow::Borrowed(reason), Cow::Borrowed(retcode));
        Self { code, reason, retcode, outcome: Cow::Borrowed("refused") }
    }

    /// The bridge's, before the gateway is asked.
    pub(crate) const fn not_sent(code: Code, reason: &'static str) -> Self {
        let (reason, retcode) = (Cow::Borrowed(reason), Cow::Borrowed(""));
        Self { code, reason, retcode, outcome: Cow::Borrowed("not_sent") }
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let support::Refusal { code, reason, mut metadata, .. } = status.into();
        let mut take = |key: &str| Cow::Owned(metadata.remove(key).unwrap_or_default());
        Self { code, reason: reason.into(), retcode: take("retcode"), outcome: take("outcome") }
    }
}

/// One to twelve steps, more often few, of which the first mostly signs the agent in.
pub(crate) fn sequence() -> impl Strategy<Value = Vec<Step>> {
    let first = prop::option::weighted(0.95, sign_in());
    let more = prop::collection::vec(prop::option::weighted(0.6, step()), 0..=10);
    (first, step(), more).prop_map(|(first, second, more)| {
        first.into_iter().chain([second]).chain(more.into_iter().flatten()).collect()
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => sign_in(),
        1 => any::<bool>().prop_map(|force| Step::SignOut { force }),
        12 => change().prop_map(Step::Change),
        1 => Just(Step::GetState),
        2 => Just(Step::StartCall),
        2 => Just(Step::EndCall),
    ]
}

fn sign_in() -> impl Strategy<Value = Step> {
    let initial = prop::sample::select(vec![
        InitialState::Unspecified,
        InitialState::Idle,
        InitialState::Busy,
        InitialState::AfterCallWork,
    ]);
    (initial, any::<Option<bool>>(), any::<bool>())
        .prop_map(|(initial, auto_idle, force)| Step::SignIn { initial, auto_idle, force })
}

fn change() -> impl Strategy<Value = Change> {
    let reason = prop::sample::select(vec![None, Some(0), Some(200), Some(250)]);
    let busy = (reason, any::<Option<bool>>());
    let rest = (1..86_400_i64, 0..=255, any::<Option<bool>>());
    prop_oneof![
        4 => busy.prop_map(|(reason, prolong)| Change::SetBusy { reason, prolong }),
        2 => Just(Change::CancelBusy),
        2 => Just(Change::SetIdle),
        3 => Just(Change::SetAfterCallWork),
        2 => Just(Change::CancelAfterCallWork),
        3 => rest.prop_map(|(seconds, reason, prolong)| {
            Change::SetResting { seconds, reason, prolong }
        }),
        2 => Just(Change::CancelResting),
    ]
}
