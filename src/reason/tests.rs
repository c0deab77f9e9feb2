//! Checks that the table, `docs/calling/errors.md` and the comments in `proto/` agree.

use std::collections::BTreeSet;

use super::*;
use crate::{
    call::{Outcome, Share},
    documents_for_tests::{self, Document},
    retcode::{Kind, LISTED, Retcode},
    rpc::code_name,
};

const DOCS: &str = include_str!("../../docs/calling/errors.md");
const TELEMETRY: &str = include_str!("../../docs/running/telemetry.md");
const RUNBOOK: &str = include_str!("../../docs/running/runbook.md");
/// The start of the line in `TELEMETRY` that lists the limits.
const COUNTED: &str = "| `ccgw_calls_over_limit_total` |";
const CONTRACT: [&str; 3] = [
    include_str!("../../proto/ccgateway/agent/v1/agent_state.proto"),
    include_str!("../../proto/ccgateway/agent/v1/agent_session.proto"),
    include_str!("../../proto/ccgateway/agent/v1/agent_events.proto"),
];
/// For the bridge's rules on who may call, and for nothing else.
const ABOUT_THE_CALLER: [(&str, &str); 2] =
    [("UNAUTHENTICATED", "CALLER_UNKNOWN"), ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")];

/// The cells of each row in the document: code, reason, outcome, retry, details, what happened and
/// what to do.
fn rows() -> Vec<Vec<String>> {
    let table = DOCS.split("## Every reason").nth(1).expect("the table");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// The cells that the document must have for a reason, without what happened.
fn shown(reason: &Reason) -> [String; 6] {
    let outcomes: Vec<_> =
        reason.outcomes.iter().map(|outcome| format!("`{}`", outcome.as_str())).collect();
    let retry = match reason.retry {
        Retry::No => "no",
        Retry::After => "RetryInfo",
        Retry::AfterDeadline => "RetryInfo, beyond the deadline",
    };
    let details = match reason.details {
        Details::None => String::new(),
        Details::BadRequest => "BadRequest".to_owned(),
        Details::Quota => "QuotaFailure".to_owned(),
        Details::Precondition(kind) => format!("PreconditionFailure `{kind}`"),
        Details::Resource(kind) => format!("ResourceInfo `{kind}`"),
    };
    [
        format!("`{}`", code_name(reason.code)),
        format!("`{}`", reason.name),
        outcomes.join(", "),
        retry.to_owned(),
        details,
        reason.advice.to_owned(),
    ]
}

/// Callers who are refused look the limit up in the one document. Operators who count such calls
/// look it up in the other.
#[test]
fn the_docs_have_every_share() {
    let line = |page: &'static str, start: &str| {
        let line = page.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no line starts with {start}"))
    };
    let of_errors = line(DOCS, "| `share`, `limit` |");
    let of_metrics = line(TELEMETRY, COUNTED);
    for share in Share::ALL {
        let name = format!("`{}`", share.as_str());
        assert!(of_errors.contains(&name), "docs/calling/errors.md lacks {name} at `share`");
        assert!(of_metrics.contains(&name), "docs/running/telemetry.md lacks {name} at {COUNTED}");
    }
}

#[test]
fn the_docs_have_every_reason_as_the_program_has_it() {
    let rows = rows();
    let names: Vec<_> = rows.iter().map(|row| row[1].trim_matches('`')).collect();
    let expected: Vec<_> = ALL.iter().map(|reason| reason.name).collect();
    assert_eq!(names, expected);
    for (row, reason) in rows.iter().zip(ALL) {
        let [code, name, outcome, retry, details, happened, advice] = &row[..] else {
            panic!("{row:?} has seven cells");
        };
        let row = [code, name, outcome, retry, details, advice].map(String::clone);
        assert_eq!(row, shown(reason));
        assert!(!happened.is_empty(), "{name}");
    }
}

/// Whoever is woken counts the reasons in the log, and looks the first one up.
#[test]
fn the_runbook_has_every_reason_that_its_alert_counts() {
    let section = RUNBOOK.split("\n## CcgwCallsFailing\n").nth(1).expect("the section");
    let section = section.split("\n## ").next().expect("its end");
    let counted = [
        Code::Unknown,
        Code::DeadlineExceeded,
        Code::ResourceExhausted,
        Code::Internal,
        Code::Unavailable,
    ];
    // It ends streams, which the alert does not count.
    let is_counted =
        |reason: &&Reason| counted.contains(&reason.code) && reason.name != "STREAM_IDLE";
    for reason in ALL.iter().copied().filter(is_counted) {
        let name = format!("`{}`", reason.name);
        assert!(
            section.contains(&name),
            "docs/running/runbook.md lacks {name} at CcgwCallsFailing"
        );
    }
}

#[test]
fn a_name_is_one_reason_with_one_code() {
    let names: BTreeSet<_> = ALL.iter().map(|reason| reason.name).collect();
    assert_eq!(names.len(), ALL.len());
    for reason in ALL {
        let code = code_name(reason.code);
        let is_about_the_caller = ABOUT_THE_CALLER.iter().any(|(reserved, _)| *reserved == code);
        assert_eq!(
            is_about_the_caller,
            ABOUT_THE_CALLER.contains(&(code, reason.name)),
            "{}",
            reason.name
        );
        assert!(!reason.outcomes.is_empty() && !reason.advice.is_empty(), "{}", reason.name);
        assert_eq!(find(reason.name).map(|found| found.name), Some(reason.name));
    }
    assert!(find("LICENCE").is_none());
}

/// The retcodes in a text.
fn retcodes(text: &str) -> BTreeSet<&str> {
    let is_code = |word: &&str| {
        let mut parts = word.split('-');
        let mut three = || {
            parts
                .next()
                .is_some_and(|part| part.len() == 3 && part.bytes().all(|b| b.is_ascii_digit()))
        };
        three() && three() && parts.next().is_none()
    };
    text.split(|c: char| !c.is_ascii_digit() && c != '-').filter(is_code).collect()
}

#[test]
fn the_docs_name_the_retcodes_behind_each_reason() {
    for row in rows() {
        let kinds: &[Kind] = match row[1].trim_matches('`') {
            "GATEWAY_REJECTED_PARAMETER" => &[Kind::ParameterRejected],
            "SESSION_EXPIRED" => &[Kind::SessionExpired, Kind::SessionMoved],
            "AGENT_NOT_SIGNED_IN" => &[Kind::AgentNotSignedIn, Kind::AgentSignedOut],
            "AGENT_STATE_REFUSED" => &[Kind::StateRefused],
            "GATEWAY_OPERATION_FAILED" => &[Kind::OperationFailed],
            "AGENT_SWITCHOVER" => &[Kind::Switchover],
            "OPERATION_IN_PROGRESS" => &[Kind::OperationInProgress, Kind::SignInInProgress],
            "AGENT_ALREADY_SIGNED_IN" => &[Kind::AlreadySignedIn],
            "FORCE_NOT_ALLOWED" => &[Kind::ForceNotAllowed],
            "PLATFORM_UNAVAILABLE" => &[Kind::PlatformUnavailable],
            "CREDENTIALS_REJECTED" => &[Kind::CredentialsRejected],
            "ACCOUNT_LOCKED" => &[Kind::AccountLocked],
            _ => {
                assert_eq!(retcodes(&row[5]), BTreeSet::new(), "{}", row[1]);
                continue;
            }
        };
        let listed = LISTED.iter().map(|listed| listed.code);
        let expected: BTreeSet<_> = listed
            .filter(|code| kinds.contains(&Retcode::refusal(code).expect("a refusal").kind()))
            .collect();
        assert_eq!(retcodes(&row[5]), expected, "{}", row[1]);
    }
}

/// The reasons that a comment lists, each with its code. A line that begins with a code may
/// continue in lines that are indented further.
fn listed(comment: &[&str]) -> Vec<(String, String)> {
    let mut code = String::new();
    let mut found = Vec::new();
    for line in comment {
        let text = line.trim_start_matches("//");
        let indent = text.len() - text.trim_start().len();
        let mut words = text.split([' ', ',', ':']).filter(|word| !word.is_empty()).peekable();
        if indent == 3 {
            words.next().unwrap_or_default().clone_into(&mut code);
        } else if indent < 3 {
            code.clear();
        }
        for word in words.filter(|word| !code.is_empty() && is_name(word)) {
            found.push((code.clone(), word.to_owned()));
        }
    }
    found
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.contains('_')
        && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        || word == "DEADLINE"
}

/// Each method with its comment.
fn methods() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut methods = Vec::new();
    for file in CONTRACT {
        let mut comment = Vec::new();
        for line in file.lines().map(str::trim) {
            if line.starts_with("//") {
                comment.push(line);
                continue;
            }
            if let Some(method) = line.strip_prefix("rpc ") {
                let name = method.split('(').next().unwrap_or_default();
                methods.push((name, std::mem::take(&mut comment)));
            }
            comment.clear();
        }
    }
    methods
}

#[test]
fn the_contract_gives_each_reason_the_code_that_the_program_gives_it() {
    let mut told = BTreeSet::new();
    let header: Vec<_> =
        CONTRACT[0].lines().take_while(|line| !line.starts_with("package")).collect();
    let outcomes = [Outcome::NotSent, Outcome::Refused, Outcome::Unknown].map(Outcome::as_str);
    let of_header = listed(&header).into_iter().filter(|(code, _)| !outcomes.contains(&&**code));
    let of_methods = methods().into_iter().flat_map(|(_, comment)| listed(&comment));
    for (code, name) in of_header.chain(of_methods) {
        let reason = find(&name).unwrap_or_else(|| panic!("{name} is no reason of the bridge"));
        assert_eq!(code, code_name(reason.code), "{name}");
        told.insert(reason.name);
    }
    let all: BTreeSet<_> = ALL.iter().map(|reason| reason.name).collect();
    assert_eq!(told, all);
}

#[test]
fn every_method_says_what_callers_get_whom_it_does_not_let() {
    let methods = methods();
    assert_eq!(methods.len(), crate::rpc::methods().len());
    for (name, comment) in methods {
        let listed = listed(&comment);
        for (code, reason) in ABOUT_THE_CALLER {
            assert!(listed.contains(&(code.to_owned(), reason.to_owned())), "{name}");
        }
        assert!(comment.iter().any(|line| line.starts_with("// Errors")), "{name}");
    }
}

/// A word in backquotes, in capitals with underscores, has to be a reason, a code, or another name
/// of the contract.
#[test]
fn the_documents_name_no_reason_that_there_is_not() {
    let mut seen = 0;
    let mut strange = Vec::new();
    for Document { name, prose } in documents_for_tests::all() {
        for word in prose.split('`').skip(1).step_by(2).filter(|word| is_name(word)) {
            seen += 1;
            if find(word).is_none() && !is_of_the_contract(word) && !is_variable(word) {
                strange.push(format!("{name} names {word}"));
            }
        }
    }
    assert!(strange.is_empty(), "{strange:#?}");
    assert!(seen > 100, "only {seen} were found");
}

fn is_of_the_contract(word: &str) -> bool {
    let is_code = ALL.iter().any(|reason| code_name(reason.code) == word);
    // Names of enum values may also be written without their common prefix.
    let is_value = CONTRACT
        .iter()
        .any(|file| [" ", "_"].iter().any(|before| file.contains(&format!("{before}{word} = "))));
    let is_detail = ALL.iter().any(|reason| match reason.details {
        Details::Precondition(kind) | Details::Resource(kind) => kind == word,
        Details::None | Details::BadRequest | Details::Quota => false,
    });
    // `NOT_SERVING` is a status of gRPC's health service.
    is_code || is_value || is_detail || word == "NOT_SERVING"
}

/// An environment variable, or a setting of the gateway.
fn is_variable(word: &str) -> bool {
    "CCGW_ OTEL_ REDIS_ LOGIN_PWD_ EVENT_METHOD GET_EVENT_ PR_SET_ CAP_SYS_ NO_COLOR"
        .split(' ')
        .any(|start| word.starts_with(start))
}
