//! An answer with the way it is delivered, and how faults change both.

use tokio::time::sleep;

use super::open_call::OpenCall;
use crate::{fault::Fault, options::Options, reply::Reply};

/// An answer and the way in which it is to be delivered.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) reply: Reply,
    pub(crate) delivery: Delivery,
    /// The open call; it must be kept until the answer is written.
    pub(crate) call: Option<OpenCall>,
}

/// How an answer reaches the client, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Whole,
    WholeThenClose,
    Half,
    Cut,
    Never,
}

// === impl Outcome ===

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Self {
        Self { reply, delivery: Delivery::Whole, call: None }
    }
}

// === impl Fault ===

impl Fault {
    /// Whether a request with this fault is carried out.
    pub(super) fn is_carried_out(&self) -> bool {
        !matches!(self, Self::Status { .. } | Self::Html | Self::Retcode { .. } | Self::TlsFailure)
    }

    /// The answer to a request that this fault keeps from being carried out.
    pub(super) fn without_effect(self, options: &Options) -> Outcome {
        let reply = match self {
            Self::Status { status, headers, body, content_type } => {
                let mut reply = Reply::other(status, &content_type, body);
                reply.headers = headers;
                reply
            }
            Self::Retcode { retcode, message } => {
                Reply::refusal_saying(options, &retcode, &message)
            }
            _ => Reply::login_page(),
        };
        reply.into()
    }

    /// Changes the answer of a request that was carried out, or its delivery.
    pub(super) async fn after_effect(self, mut reply: Reply) -> Outcome {
        let delivery = match self {
            Self::Delay(time) | Self::DelayBefore(time) => {
                sleep(time).await;
                Delivery::Whole
            }
            Self::Hang => Delivery::Never,
            Self::CutBeforeAnswer => Delivery::Cut,
            Self::CutMidAnswer => Delivery::Half,
            Self::CloseAfterAnswer => Delivery::WholeThenClose,
            Self::Raw { body, content_type, headers } => {
                reply.body = body;
                reply.content_type = content_type;
                reply.headers.extend(headers);
                reply.retcode = None;
                Delivery::Whole
            }
            Self::StaleSetGuid(guid) => {
                reply.set_guid(&guid);
                Delivery::Whole
            }
            _ => Delivery::Whole,
        };
        Outcome { delivery, ..reply.into() }
    }
}
