//! The points at which a request can fail, and the calls that are tested.

use ccgateway_sim::Interface;
use ccgateway_test_support::lossy::{Loss, Own};

/// Where a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
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

pub(super) const POINTS: &[Point] = &[
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
pub(super) enum Call {
    SetBusy,
    /// For an agent who has to be signed in first.
    FirstSetBusy,
    SignIn,
    SignOut,
}

pub(super) const CALLS: [Call; 4] =
    [Call::SetBusy, Call::FirstSetBusy, Call::SignIn, Call::SignOut];

impl Point {
    /// Whether the gateway is told to do it.
    pub(super) fn is_at_gateway(self) -> bool {
        matches!(self, Self::Refused(_) | Self::Cut | Self::Page)
    }
}

impl Call {
    /// What the requests that the call is about are recognised by.
    pub(super) fn target(self, agent: u32) -> String {
        match self {
            Self::SetBusy | Self::FirstSetBusy => format!("/{agent}/saybusy"),
            Self::SignIn => format!("PUT /agentgateway/resource/onlineagent/{agent} "),
            Self::SignOut => format!("/{agent}/logout"),
        }
    }

    pub(super) fn interface(self) -> Interface {
        match self {
            Self::SetBusy | Self::FirstSetBusy => Interface::SayBusy,
            Self::SignIn => Interface::SignIn,
            Self::SignOut => Interface::SignOut,
        }
    }

    /// Where the first of two faults strikes.
    pub(super) fn first(self, agent: u32) -> (String, Interface) {
        match self {
            Self::FirstSetBusy => (Self::SignIn.target(agent), Interface::SignIn),
            call => (call.target(agent), call.interface()),
        }
    }

    /// Whether the agent has to be signed in before the call.
    pub(super) fn needs_session(self) -> bool {
        matches!(self, Self::SetBusy | Self::SignOut)
    }
}
