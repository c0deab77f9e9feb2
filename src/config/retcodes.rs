//! `[retcodes."NNN-NNN"]`.

use super::{
    error::{Wrong, quote},
    reader::Section,
    scalar::{self, HOUR, MILLISECOND},
};
use crate::retcode::{Override, Overrides};

/// `google.rpc.Code`, without OK: a refusal is never a success.
const CODES: [(&str, u8); 16] = [
    ("CANCELLED", 1),
    ("UNKNOWN", 2),
    ("INVALID_ARGUMENT", 3),
    ("DEADLINE_EXCEEDED", 4),
    ("NOT_FOUND", 5),
    ("ALREADY_EXISTS", 6),
    ("PERMISSION_DENIED", 7),
    ("RESOURCE_EXHAUSTED", 8),
    ("FAILED_PRECONDITION", 9),
    ("ABORTED", 10),
    ("OUT_OF_RANGE", 11),
    ("UNIMPLEMENTED", 12),
    ("INTERNAL", 13),
    ("UNAVAILABLE", 14),
    ("DATA_LOSS", 15),
    ("UNAUTHENTICATED", 16),
];

/// Codes that elsewhere speak of the gRPC caller only.
const ABOUT_THE_CALLER: [u8; 2] = [7, 16];

const REASON_MAX: usize = 63;

pub(super) fn retcodes(section: &Section<'_>) -> Overrides {
    let mut retcodes = Overrides::default();
    for (name, section) in section.named() {
        if !is_retcode(name) {
            section.error(Wrong::new(
                format!("{} cannot be overridden", quote(name)),
                "give a retcode of the form NNN-NNN in quotation marks, such as \"100-007\"",
            ));
        }
        retcodes.insert(name.to_owned(), reading(&section));
    }
    retcodes
}

fn is_retcode(name: &str) -> bool {
    let three = |digits: &str| digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit());
    name.split_once('-').is_some_and(|(left, right)| three(left) && three(right))
}

fn reading(section: &Section<'_>) -> Override {
    let code = section.choice("code", &CODES);
    section.missing("code", "give a gRPC code, such as \"FAILED_PRECONDITION\"");
    let reason = section.read("reason", |node| reason(scalar::text(node)?));
    section.missing("reason", "give a reason, such as \"AGENT_STATE_REFUSED\"");
    if code.is_some_and(|code| ABOUT_THE_CALLER.contains(&code)) {
        section.notes().warn(format!(
            "{}.code makes a refusal of the gateway look like one of the bridge's own access \
             rules; give FAILED_PRECONDITION unless callers expect that",
            section.key()
        ));
    }
    Override {
        code: code.unwrap_or_default(),
        reason: reason.unwrap_or_default(),
        retry_after: section.optional_duration("retry_after", MILLISECOND..=HOUR),
    }
}

fn reason(text: &str) -> Result<String, Wrong> {
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    let good = text.len() <= REASON_MAX
        && text.bytes().next().is_some_and(|b| b.is_ascii_uppercase())
        && text.bytes().all(allowed);
    good.then(|| text.to_owned()).ok_or_else(|| {
        Wrong::new(
            format!("{} is no reason", quote(text)),
            format!("give 1 to {REASON_MAX} of A-Z, 0-9 and '_', starting with a letter"),
        )
    })
}
