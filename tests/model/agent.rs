//! A model of an agent's states, as they are documented (API.md, sections 3.1, 3.3, 5.1).
//!
//! What the documentation leaves open is marked "open"; the model then says what the simulated
//! gateway does without options.

use ccgateway_bridge::rpc::proto::ActivityState;
use ccgateway_test_support::changes::Change;
use tonic::Code;

use crate::steps::{Answer, InitialState, Refusal, Step};

/// What an agent is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Doing {
    Nothing,
    Waiting,
    Pausing,
    WrappingUp,
    Talking,
    Resting,
}

/// An agent, as far as its own requests and calls go.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    doing: Doing,
    /// A busy was accepted and comes later.
    busy_later: bool,
    /// A call is followed by waiting for the next one, not by after-call work.
    auto_idle: bool,
}

const STATE: Refusal = Refusal::refused(Code::FailedPrecondition, "AGENT_STATE_REFUSED", "100-009");
const SIGN_OUT_STATE: Refusal =
    Refusal::refused(Code::FailedPrecondition, "AGENT_STATE_REFUSED", "100-010");
const SIGNED_IN_ALREADY: Refusal =
    Refusal::refused(Code::AlreadyExists, "AGENT_ALREADY_SIGNED_IN", "100-002");
const NO_SESSION: Refusal = Refusal::not_sent(Code::FailedPrecondition, "SESSION_MISSING");
const BAD_FIELD: Refusal = Refusal::not_sent(Code::InvalidArgument, "INVALID_REQUEST");

impl Doing {
    pub(crate) const ALL: [Self; 6] = [
        Self::Nothing,
        Self::Waiting,
        Self::Pausing,
        Self::WrappingUp,
        Self::Talking,
        Self::Resting,
    ];
}

impl Agent {
    pub(crate) fn new() -> Self {
        Self { doing: Doing::Nothing, busy_later: false, auto_idle: true }
    }

    pub(crate) fn doing(&self) -> Doing {
        self.doing
    }

    /// The state's number (5.1).
    pub(crate) fn code(&self) -> u8 {
        match self.doing {
            Doing::Nothing => 2,
            Doing::Pausing => 3,
            Doing::Waiting => 4,
            Doing::WrappingUp => 5,
            Doing::Talking => 7,
            Doing::Resting => 8,
        }
    }

    /// What asking for the agent's state brings.
    pub(crate) fn state(&self) -> Answer {
        let state = match self.doing {
            // There is nobody to ask in the name of.
            Doing::Nothing => return Err(NO_SESSION),
            Doing::Pausing => ActivityState::Busy,
            Doing::Waiting => ActivityState::Idle,
            Doing::WrappingUp => ActivityState::AfterCallWork,
            Doing::Talking => ActivityState::Talking,
            Doing::Resting => ActivityState::Resting,
        };
        Ok(Some((state, self.code().into(), Some(self.doing == Doing::Talking))))
    }

    /// Takes a step and says what it is answered with.
    pub(crate) fn expect(&mut self, step: &Step) -> Answer {
        match step {
            Step::GetState => return self.state(),
            Step::SignIn { initial, auto_idle, force } => {
                self.sign_in(*initial, *auto_idle, *force)?;
            }
            Step::SignOut { force } => self.sign_out(*force)?,
            Step::StartCall => self.start_call(),
            Step::EndCall => self.end_call(),
            Step::Change(Change::SetBusy { reason: None, prolong: Some(true) }) => {
                return Err(BAD_FIELD);
            }
            Step::Change(_) if self.doing == Doing::Nothing => return Err(NO_SESSION),
            Step::Change(change) => self.change(change)?,
        }
        Ok(None)
    }

    /// Signed in already: 100-002, unless by force (3.1). The session begins anew then.
    fn sign_in(
        &mut self,
        initial: InitialState,
        auto_idle: Option<bool>,
        force: bool,
    ) -> Result<(), Refusal> {
        if self.doing != Doing::Nothing && !force {
            return Err(SIGNED_IN_ALREADY);
        }
        let doing = match initial {
            InitialState::Unspecified | InitialState::Idle => Doing::Waiting,
            InitialState::Busy => Doing::Pausing,
            InitialState::AfterCallWork => Doing::WrappingUp,
        };
        *self = Self { doing, busy_later: false, auto_idle: auto_idle.unwrap_or(true) };
        Ok(())
    }

    /// Not while talking, unless by force (3.1).
    fn sign_out(&mut self, force: bool) -> Result<(), Refusal> {
        match self.doing {
            Doing::Nothing => Err(NO_SESSION),
            Doing::Talking if !force => Err(SIGN_OUT_STATE),
            _ => {
                *self = Self::new();
                Ok(())
            }
        }
    }

    #[expect(clippy::match_same_arms, reason = "a rule of the documentation each")]
    fn change(&mut self, change: &Change) -> Result<(), Refusal> {
        use Doing::{Pausing, Resting, Talking, Waiting, WrappingUp};
        let next = match (change, self.doing) {
            (Change::SetBusy { .. }, Waiting) => Pausing,
            // "Both mandatory when busy already": a reason, and prolong.
            (Change::SetBusy { reason: Some(200..), prolong: Some(true) }, Pausing) => Pausing,
            // "Delayed busy."
            (Change::SetBusy { .. }, Talking | WrappingUp) => {
                self.busy_later = true;
                return Ok(());
            }
            // Open: what is asked for while resting.
            (Change::SetBusy { .. }, _) => return Err(STATE),

            // "Must be busy."
            (Change::CancelBusy, Pausing) => Waiting,
            (Change::CancelBusy, _) => return Err(STATE),

            // From busy and after-call work. Open: whether a busy that waits goes on waiting.
            (Change::SetIdle, Pausing | WrappingUp) => {
                self.busy_later = false;
                Waiting
            }
            // "While talking cancels a pending busy."
            (Change::SetIdle, Talking) => {
                self.busy_later = false;
                Talking
            }
            // Open: when idle, and whether it ends rest.
            (Change::SetIdle, _) => return Err(STATE),

            // Open: elsewhere.
            (Change::SetAfterCallWork, Waiting | Pausing) => WrappingUp,
            (Change::SetAfterCallWork, _) => return Err(STATE),

            // "Must be in work"; a busy comes "only when that state is left".
            (Change::CancelAfterCallWork, WrappingUp) => self.after_the_work(),
            (Change::CancelAfterCallWork, _) => return Err(STATE),

            (Change::SetResting { .. }, Waiting | Pausing) => Resting,
            // "Mandatory when resting already": prolong.
            (Change::SetResting { prolong: Some(true), .. }, Resting) => Resting,
            // Open: while talking and in after-call work.
            (Change::SetResting { .. }, _) => return Err(STATE),

            // "Must be resting."
            (Change::CancelResting, Resting) => Waiting,
            (Change::CancelResting, _) => return Err(STATE),
        };
        self.doing = next;
        Ok(())
    }

    /// Open: a call ends rest, and a busy agent is busy again after it.
    fn start_call(&mut self) {
        match self.doing {
            Doing::Nothing | Doing::Talking => return,
            Doing::Pausing => self.busy_later = true,
            _ => {}
        }
        self.doing = Doing::Talking;
    }

    fn end_call(&mut self) {
        if self.doing == Doing::Talking {
            self.doing = if self.auto_idle { self.after_the_work() } else { Doing::WrappingUp };
        }
    }

    fn after_the_work(&mut self) -> Doing {
        if std::mem::take(&mut self.busy_later) { Doing::Pausing } else { Doing::Waiting }
    }
}
