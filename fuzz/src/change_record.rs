use ccgateway_bridge::{
    call::{CallError, Outcome, Refusal},
    gateway::{Envelope, INTERFACES, SAY_BUSY},
    keyring::Purpose,
    retcode::Retcode,
    session::RECORD_MAX,
    tenant::{
        Answer, Did, Made,
        fuzzing::{RecordedChange, read_change, record_change},
    },
};

use crate::ring::{agent, seal};

/// What became of a change with an id: first a record, then what a gateway may have answered.
pub fn change_record(data: &[u8]) {
    record(data);
    answer(data);
}

/// What is read says nothing that cannot have been recorded, and is written as it was read.
fn record(data: &[u8]) {
    let Some(change) = read_change(data) else { return };
    assert!(INTERFACES.into_iter().any(|known| std::ptr::eq(known, change.interface)));
    if let Some(Err(error)) = &change.ended {
        assert_ne!(error.outcome(), Outcome::NotSent, "that is never recorded");
    }
    if change.ended.is_some() {
        written_again(&change);
    }
}

/// Whatever a gateway has answered, a store takes the record, and it says the same as the answer.
fn answer(body: &[u8]) {
    let ended = match Envelope::read(body, None) {
        Ok(Envelope { refused: Some(retcode), message, .. }) => Err(refusal(retcode, message)),
        Ok(envelope) => Ok(Made { did: Did::Changed(Answer::Envelope(envelope)), after: None }),
        Err(unreadable) => Err(CallError::BadReply(unreadable.to_string())),
    };
    let (interface, arguments) = (&SAY_BUSY, "/2147483647".to_owned());
    let change = RecordedChange { agent: agent(1001), interface, arguments, ended: Some(ended) };
    let record = written_again(&change);
    let sealed = seal(Purpose::Change, "an id", &record).encode();
    assert!(sealed.len() <= RECORD_MAX, "no replica reads a record of {} bytes", sealed.len());
}

fn refusal(retcode: Retcode, message: String) -> CallError {
    let node = Some("n".repeat(32).into());
    CallError::Refused(Refusal { retcode, message, node, http_status: 500 })
}

fn written_again(change: &RecordedChange) -> Vec<u8> {
    let written = record_change(change).expect("it has ended");
    let again = read_change(&written).expect("what was written");
    assert_eq!((again.agent, &again.arguments), (change.agent, &change.arguments));
    assert!(std::ptr::eq(again.interface, change.interface));
    let told = |change: &RecordedChange| match change.ended.as_ref().expect("it has ended") {
        Ok(made) => Ok(match &made.did {
            Did::Changed(Answer::Envelope(_)) => 0,
            Did::Changed(Answer::Observed(_)) => 1,
            Did::SignedIn(..) => 2,
            Did::SignedOut(_) => 3,
        }),
        Err(error) => Err((
            error.outcome(),
            error.refusal().map(|refusal| refusal.retcode.to_string()),
            error.http_status(),
            error.observed(),
        )),
    };
    assert_eq!(told(&again), told(change));
    assert_eq!(record_change(&again), Some(written.clone()), "texts are cut once");
    written
}
