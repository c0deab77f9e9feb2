//! What callers read of each error, in a file that shows each change of it.

use std::{env, fmt::Write as _, fs};

use super::*;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/rpc/status/tests/told.txt");
/// The metadata that every error has, with the same value in this test.
const USUAL: [&str; 4] = ["method", "tenant_id", "agent_id", "gateway"];

/// Those of which [`errors`] has only one of each kind.
pub(super) fn others() -> Vec<CallError> {
    let waits = [Wait::Request, Wait::Queue, Wait::Store, Wait::Connection, Wait::Watching];
    let troubles = [StoreTrouble::Silent, StoreTrouble::RefusesReads, StoreTrouble::RefusesWrites];
    let unreadable = [
        Unreadable::Malformed("a field has no end".into()),
        Unreadable::RefusedByHttp2(Some("a bad path".into())),
        Unreadable::ContentType("text/plain".into()),
    ];
    let unsent = waits.map(Obstacle::Deadline).into_iter();
    let unsent = unsent.chain(troubles.map(Obstacle::StoreUnavailable));
    let unsent = unsent.chain(unreadable.map(Obstacle::Unreadable)).map(not_sent);
    let stages = [Stage::SignIn, Stage::ReadBack, Stage::Store].map(CallError::Deadline);
    let proxied = [(200, "100-009"), (500, "100-009"), (200, "123-456")];
    let proxied = proxied.map(|(http_status, code)| {
        let retcode = Retcode::refusal(code).expect("a refusal");
        CallError::Refused(Refusal { retcode, message: String::new(), node: None, http_status })
    });
    let interface = "getAgentStatus";
    let missing = [refusal("000-002"), refusal("100-006")]
        .map(|answer| CallError::NoSuchInterface { interface, answer: Box::new(answer) });
    let statuses = [302, 403, 405, 408, 504, 599].map(|status| CallError::HttpStatus { status });
    let again =
        [Obstacle::Deadline(Wait::Queue), unreachable("no route".into())].map(after_refusal);
    unsent.chain(again).chain(stages).chain(proxied).chain(missing).chain(statuses).collect()
}

fn line(error: &CallError) -> String {
    let refused = refuse(error, &to(&about(), None), &Overrides::default());
    let whole = message_of(&refused.status);
    assert_eq!(whole.message, refused.status.message());
    assert_eq!(whole.code, i32::from(refused.status.code()));
    let details = refused.status.get_error_details();
    let info = details.error_info().expect("ErrorInfo is in every error");
    let mut metadata: Vec<_> = info.metadata.iter().collect();
    metadata.retain(|(key, _)| !USUAL.contains(&key.as_str()));
    metadata.sort_unstable();
    let mut line =
        format!("{:?} {}\n    {}\n   ", refused.status.code(), info.reason, whole.message);
    for (key, value) in metadata {
        write!(line, " {key}={value:?}").expect("a string takes all");
    }
    line
}

#[test]
fn what_callers_read_of_each_error_is_as_the_file_has_it() {
    let mut errors = errors();
    // Of the hundreds of retcodes, and of what may come after a refusal, a few will do.
    errors.retain(|error| !matches!(error, CallError::Refused(_) | CallError::AfterRefusal(..)));
    let told: Vec<_> = errors.iter().chain(&others()).map(line).collect();
    let told = told.join("\n") + "\n";
    if env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(FILE, &told).expect("written");
    }
    let before = fs::read_to_string(FILE).expect("the file");
    for (now, before) in told.lines().zip(before.lines()) {
        assert_eq!(now, before, "if it is meant: UPDATE_REFERENCE=1 cargo test --lib told");
    }
    assert_eq!(told.lines().count(), before.lines().count());
}

#[test]
fn an_outcome_is_found_by_its_spelling_alone() {
    for outcome in Outcome::ALL {
        assert_eq!(Outcome::find(outcome.as_str()), Some(outcome));
    }
    assert_eq!(Outcome::find("accepted"), None);
    for (error, is_about_the_caller) in [
        (not_sent(Obstacle::CallerNotAllowed), true),
        (not_sent(Obstacle::CallerUnknown(Unidentified::Nothing)), true),
        (not_sent(Obstacle::TenantUnknown), false),
        (refusal("100-006"), false),
    ] {
        assert_eq!(error.is_about_the_caller(), is_about_the_caller, "{error:?}");
    }
}
