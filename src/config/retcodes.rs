//! `[retcodes."NNN-NNN"]`.

use std::{collections::HashMap, time::Duration};

use super::{
    error::{Problem, quote},
    reader::Section,
    scalar::{self, HOUR, MILLISECOND},
};
use crate::{call::Outcome, reason, retcode::Retcode};

/// What the operator has configured for a retcode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// A `google.rpc.Code` other than OK, `PERMISSION_DENIED` and `UNAUTHENTICATED`.
    pub code: u8,
    /// `ErrorInfo.reason`: 1 to 63 of `A-Z 0-9 _`, starting with a letter.
    pub reason: String,
    /// When a caller may try again. `None` if nothing is said about it.
    pub retry_after: Option<Duration>,
}

/// What the operator has configured, by retcode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(HashMap<String, Override>);

/// The codes of `google.rpc.Code` that a retcode may have. OK is not among them, since a refusal is
/// never a success. Nor are UNAUTHENTICATED and PERMISSION_DENIED, which are about the gRPC caller.
const CODES: [(&str, u8); 14] = [
    ("CANCELLED", 1),
    ("UNKNOWN", 2),
    ("INVALID_ARGUMENT", 3),
    ("DEADLINE_EXCEEDED", 4),
    ("NOT_FOUND", 5),
    ("ALREADY_EXISTS", 6),
    ("RESOURCE_EXHAUSTED", 8),
    ("FAILED_PRECONDITION", 9),
    ("ABORTED", 10),
    ("OUT_OF_RANGE", 11),
    ("UNIMPLEMENTED", 12),
    ("INTERNAL", 13),
    ("UNAVAILABLE", 14),
    ("DATA_LOSS", 15),
];

const REASON_MAX: usize = 63;

impl Overrides {
    /// Adds what is configured for a retcode.
    pub fn insert(&mut self, retcode: String, reading: Override) {
        self.0.insert(retcode, reading);
    }

    /// What is configured for this retcode.
    pub fn get(&self, retcode: &Retcode) -> Option<&Override> {
        // Most bridges have none, and need not hash.
        if self.0.is_empty() { None } else { self.0.get(retcode.as_str()) }
    }

    /// Whether nothing is configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(super) fn retcodes(section: &Section<'_>) -> Overrides {
    let mut retcodes = Overrides::default();
    for (name, section) in section.named() {
        if !is_retcode(name) {
            section.error(Problem::new(
                format!("{} cannot be overridden", quote(name)),
                "give a retcode of the form NNN-NNN in quotation marks, such as \"100-007\"",
            ));
        }
        retcodes.insert(name.to_owned(), one(&section));
    }
    retcodes
}

fn is_retcode(name: &str) -> bool {
    let three = |digits: &str| digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit());
    name.split_once('-').is_some_and(|(left, right)| three(left) && three(right))
}

fn one(section: &Section<'_>) -> Override {
    let code = section.read("code", |node| code(scalar::text(node)?));
    section.missing("code", "give a gRPC code, such as \"FAILED_PRECONDITION\"");
    let reason = section.read("reason", |node| reason(scalar::text(node)?));
    section.missing("reason", "give a reason, such as \"AGENT_STATE_REFUSED\"");
    if let (Some(code), Some(reason)) = (code, &reason) {
        check_own_reason(section, code, reason);
    }
    Override {
        code: code.unwrap_or_default(),
        reason: reason.unwrap_or_default(),
        retry_after: section.optional_duration("retry_after", MILLISECOND..=HOUR),
    }
}

fn code(text: &str) -> Result<u8, Problem> {
    let known = CODES.iter().find(|(name, _)| *name == text);
    known.map(|(_, code)| *code).ok_or_else(|| match text {
        "UNAUTHENTICATED" | "PERMISSION_DENIED" => Problem::new(
            format!("{text} is reserved for the bridge's own rules on who may call"),
            "give another code, such as \"FAILED_PRECONDITION\"",
        ),
        _ => {
            let all: Vec<_> = CODES.iter().map(|(name, _)| *name).collect();
            let problem = format!("{} is not one of the allowed words", quote(text));
            Problem::new(problem, format!("give one of {}", all.join(", ")))
        }
    })
}

/// Checks that one of the bridge's own reasons keeps its meaning. Callers rely on the code that each
/// of these reasons has, and on its outcomes; the outcome of a retcode is always "refused".
fn check_own_reason(section: &Section<'_>, code: u8, reason: &str) {
    let Some(own) = reason::find(reason) else { return };
    if !own.outcomes.contains(&Outcome::Refused) {
        section.contradiction(
            &["reason"],
            Problem::new(
                format!(
                    "{reason} is one of the bridge's own reasons, and never used for a refusal"
                ),
                "give another reason of docs/calling/errors.md, or a reason of your own",
            ),
        );
        return;
    }
    if i32::from(own.code) == i32::from(code) {
        return;
    }
    let name = CODES.iter().find(|(_, number)| i32::from(*number) == i32::from(own.code));
    let name = name.map_or("another code", |(name, _)| *name);
    section.contradiction(
        &["code", "reason"],
        Problem::new(
            format!("{reason} is one of the bridge's own reasons, whose code is {name}"),
            format!("give code = \"{name}\", or a reason of your own"),
        ),
    );
}

fn reason(text: &str) -> Result<String, Problem> {
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    let good = text.len() <= REASON_MAX
        && text.bytes().next().is_some_and(|b| b.is_ascii_uppercase())
        && text.bytes().all(allowed);
    good.then(|| text.to_owned()).ok_or_else(|| {
        Problem::new(
            format!("{} is not a valid reason", quote(text)),
            format!("give 1 to {REASON_MAX} of A-Z, 0-9 and '_', starting with a letter"),
        )
    })
}
