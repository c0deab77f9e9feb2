//! The faults that a call can meet.

use std::time::Duration;

use ccgateway_sim::Fault;
use ccgateway_test_support::lossy::{Loss, Own};

use crate::chance::Chance;

/// What a proxy can do.
pub(crate) const LOSSES: [Loss; 9] = [
    Loss::InRequest,
    Loss::AfterRequest,
    Loss::BeforeAnswer,
    Loss::InAnswer,
    Loss::AfterAnswer,
    Loss::Instead(Own { status: 502, retry_after: None }),
    Loss::Instead(Own { status: 503, retry_after: None }),
    Loss::Instead(Own { status: 504, retry_after: None }),
    Loss::Unforwarded(Own { status: 503, retry_after: Some(1) }),
];

/// Whether nobody behind the proxy can tell what has become of the request.
pub(crate) fn is_hidden_by_loss(loss: Loss) -> bool {
    !matches!(loss, Loss::AfterAnswer | Loss::Unforwarded(Own { retry_after: Some(_), .. }))
}

/// The same for a fault of the gateway's.
pub(crate) fn is_hidden_by_fault(fault: &Fault) -> bool {
    match fault {
        Fault::Retcode { .. } | Fault::CloseAfterAnswer | Fault::StaleSetGuid(_) => false,
        Fault::Delay(time) => *time >= LONG,
        Fault::Status { status, .. } => !matches!(status, 404 | 405 | 429),
        _ => true,
    }
}

/// Longer than the bridge waits.
const LONG: Duration = Duration::from_millis(500);

/// Any of the faults that a gateway can have.
pub(crate) fn fault(chance: &mut Chance) -> Fault {
    const RETCODES: [&str; 8] =
        ["000-003", "000-004", "000-007", "100-003", "100-006", "100-007", "100-009", "999-999"];
    const STATUSES: [u16; 9] = [302, 401, 404, 405, 429, 500, 502, 503, 504];
    let brief = Duration::from_millis(20);
    match chance.below(12) {
        0 => Fault::Delay(brief),
        1 => Fault::DelayBefore(brief),
        2 => Fault::DelayBefore(LONG),
        3 => Fault::Hang,
        4 => Fault::CutBeforeAnswer,
        5 => Fault::CutMidAnswer,
        6 => Fault::Status {
            status: STATUSES[chance.below(STATUSES.len())],
            headers: Vec::new(),
            body: b"no".to_vec(),
            content_type: "text/plain".into(),
        },
        7 => Fault::Html,
        8 => Fault::Raw {
            body: b"{}".to_vec(),
            content_type: "application/json".into(),
            headers: Vec::new(),
        },
        9 => Fault::CloseAfterAnswer,
        10 => Fault::StaleSetGuid("00000000-dead-4437-84c3-ab9e9dae20f5.AgentGateway0".into()),
        _ => Fault::Retcode {
            retcode: RETCODES[chance.below(RETCODES.len())].into(),
            message: String::new(),
        },
    }
}
