//! What the library for callers makes of each error.

use super::*;
use crate::{
    client::{ChangeError, NextStep},
    reason::Reason,
    rpc::translate,
};

/// What a caller may do next, by the table of reasons and what is known about the agent.
fn expected(reason: &Reason, outcome: Outcome, delay: Option<Duration>) -> NextStep {
    match (outcome, reason.retry) {
        (Outcome::Unknown, _) => NextStep::Look,
        (_, Retry::After | Retry::AfterDeadline) => {
            NextStep::SendAgain(delay.expect("RetryInfo is in such an error"))
        }
        (_, Retry::No) if reason.name == "DEADLINE" => NextStep::GiveMoreTime,
        (_, Retry::No) => NextStep::ActFirst,
    }
}

fn has_the_variant_of(error: &ChangeError, outcome: Outcome) -> bool {
    match outcome {
        Outcome::NotSent => matches!(error, ChangeError::NotSent(_)),
        Outcome::Refused => matches!(error, ChangeError::Refused(_)),
        Outcome::NotApplied => matches!(error, ChangeError::NotApplied(_)),
        Outcome::Unknown => matches!(error, ChangeError::Unknown(_)),
    }
}

#[test]
fn clients_read_every_error_as_it_is_meant() {
    let mut seen = Vec::new();
    for error in errors().iter().chain(&told::others()) {
        let (status, outcome) = (status(error), error.outcome());
        let delay = status.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
        let alone = ChangeError::from(status.clone());
        // As GetStateChange and a batch tell it.
        let of_answer = ChangeError::from(&message_of(&status));
        assert_eq!(of_answer.told(), alone.told());
        for read in [alone, of_answer] {
            assert!(has_the_variant_of(&read, outcome), "{outcome:?}: {read}");
            assert_eq!(read.outcome(), outcome);
            assert_eq!(read.failed().code(), status.code());
            let told = read.told().expect("it is of the bridge");
            let reason = told.listed_reason().expect("a reason of the table");
            assert_eq!(read.advice(), reason.advice);
            assert_eq!(read.next_step(), expected(reason, outcome, delay), "{read}");
            let retcode = error.last_refusal().map(|refusal| refusal.retcode.to_string());
            assert_eq!(told.retcode(), retcode.as_deref(), "{read}");
            assert_eq!(told.observed_state(), error.observed().map(translate::activity));
            seen.push((reason.name, outcome));
        }
    }
    for reason in ALL {
        for outcome in reason.outcomes {
            assert!(seen.contains(&(reason.name, *outcome)), "{} {outcome:?}", reason.name);
        }
    }
}

#[test]
fn clients_read_what_is_wrong_with_a_request_and_what_is_not_met() {
    let field = FieldViolation { field: "reason", description: "must be 0".to_owned() };
    let invalid = ChangeError::from(status(&not_sent(Obstacle::Invalid(vec![field]))));
    let [violation] = &invalid.told().expect("told").violations[..] else { panic!("{invalid}") };
    assert_eq!((&*violation.on, &*violation.description), ("reason", "must be 0"));

    let limited = ChangeError::from(status(&overloaded(Share::TenantCalls)));
    let [violation] = &limited.told().expect("told").violations[..] else { panic!("{limited}") };
    assert_eq!(violation.on, "tenants/acme");

    let refused = ChangeError::from(status(&refusal("100-009")));
    let [unmet] = &refused.told().expect("told").unmet[..] else { panic!("{refused}") };
    assert_eq!((&*unmet.kind, &*unmet.subject), ("AGENT_STATE", "tenants/acme/agents/1001"));
}
