use std::{num::NonZeroUsize, time::Duration};

use futures_util::{FutureExt as _, poll};

use super::*;
use crate::{
    call::{Refusal, Untouched},
    gateway::{CANCEL_BUSY, SAY_BUSY},
    id::DEFAULT_AGENT_IDS,
    retcode::Retcode,
    state::AgentState,
};

fn ids(kept: Duration, most: usize) -> RequestIds {
    let most = NonZeroUsize::new(most).expect("not zero");
    RequestIds::new(&config::RequestIds { kept, most }, None)
}

fn some_ids() -> RequestIds {
    ids(Duration::from_secs(600), 100)
}

fn id(number: u8) -> ChangeId {
    let request = RequestId::parse(&format!("f81d4fae-7dec-41d0-a765-00a0c91e6b{number:02x}"));
    ChangeId { request: request.expect("an id"), of_batch: None }
}

fn busy() -> Asked {
    let agent = AgentId::parse("1001", &DEFAULT_AGENT_IDS).expect("an id");
    Asked::new(agent, &Command::plain(&SAY_BUSY))
}

fn soon() -> Deadline {
    Deadline::new(Instant::now(), Duration::from_secs(10))
}

fn made() -> Made {
    Made { did: Did::Changed(Answer::Observed(AgentState::Busy)), after: None }
}

/// A refusal that leaves the id free.
fn moving() -> CallError {
    let retcode = Retcode::refusal("000-004").expect("a refusal");
    let message = "moving".to_owned();
    CallError::Refused(Refusal { retcode, message, node: None, http_status: 200 })
}

async fn claim(ids: &RequestIds, number: u8) -> Claim {
    match ids.begin(id(number), &busy(), soon()).await {
        Ok(Begun::First(claim)) => claim,
        other => panic!("the id is free: {other:?}"),
    }
}

async fn before(ids: &RequestIds, number: u8) -> Ended {
    match ids.begin(id(number), &busy(), soon()).await {
        Ok(Begun::Before(ended)) => ended,
        other => panic!("the id is known: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_takes_the_place_of_a_call_that_has_sent_nothing() {
    let ids = some_ids();
    let first = claim(&ids, 1).await;
    let mut waiting = [Box::pin(claim(&ids, 1)), Box::pin(claim(&ids, 1))];
    for call in &mut waiting {
        assert!(poll!(call).is_pending());
    }
    drop(first);
    let [second, third] = waiting;
    let second = second.await;
    drop(third);
    second.under_way().end(Ok(made()));
    assert!(before(&ids, 1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_end_nobody_waits_for_takes_little_memory() {
    let ids = some_ids();
    let waiting = |number| ids.known().changes[&id(number)].waiting.is_some();
    let first = ids.begin_at_once(id(1), &busy()).expect("the id is free").under_way();
    assert!(!waiting(1));
    let mut second = Box::pin(before(&ids, 1));
    assert!(poll!(&mut second).is_pending());
    assert!(waiting(1) && ids.begin_at_once(id(1), &busy()).is_none());
    first.end(Ok(made()));
    assert!(!waiting(1) && second.await.is_ok());
    assert!(ids.begin_at_once(id(1), &busy()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_may_have_made_its_change() {
    let ids = some_ids();
    drop(claim(&ids, 1).await.under_way());
    assert!(matches!(*before(&ids, 1).await, Err(CallError::Internal)));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_in_the_end_is_forgotten() {
    let ids = some_ids();
    let unsent = Untouched::at_the_start().because(Obstacle::ShuttingDown);
    claim(&ids, 1).await.under_way().end(Err(unsent));
    assert!(ids.find_here(id(1)).is_none());
    drop(claim(&ids, 1).await);
}

#[tokio::test(start_paused = true)]
async fn what_an_attempt_came_to_is_known_after_another_one_that_has_sent_nothing() {
    let ids = some_ids();
    claim(&ids, 1).await.under_way().end(Err(moving()));
    for is_under_way in [false, true] {
        let second = claim(&ids, 1).await;
        assert!(ids.find_here(id(1)).is_some_and(|found| found.ended.is_none()));
        if is_under_way {
            let unsent = Untouched::at_the_start().because(Obstacle::ShuttingDown);
            second.under_way().end(Err(unsent));
        } else {
            drop(second);
        }
        let known = ids.find_here(id(1)).and_then(|found| found.ended).expect("known");
        assert!(matches!(&*known, Err(CallError::Refused(_))), "{known:?}");
    }
    claim(&ids, 1).await.under_way().end(Ok(made()));
    assert!(before(&ids, 1).await.is_ok());
    assert_eq!(ids.known().changes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_cannot_wait_does_not_know_the_outcome() {
    let ids = some_ids();
    let _under_way = claim(&ids, 1).await.under_way();
    let late = ids.begin(id(1), &busy(), soon()).await.expect_err("too late");
    assert_eq!(late.outcome(), Outcome::Unknown);
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_under_way_for_another_change_is_refused_at_once() {
    let ids = some_ids();
    let _under_way = claim(&ids, 1).await;
    let agent = AgentId::parse("1001", &DEFAULT_AGENT_IDS).expect("an id");
    let other = Asked::new(agent, &Command::plain(&CANCEL_BUSY));
    let reused = ids.begin(id(1), &other, soon()).now_or_never().expect("at once");
    let reused = reused.expect_err("reused");
    assert!(matches!(reused.obstacle(), Some(Obstacle::RequestIdReused)), "{reused}");
}

#[tokio::test(start_paused = true)]
async fn changes_are_remembered_for_a_while_and_only_so_many() {
    let ids = ids(Duration::from_secs(600), 2);
    for number in 1..=3 {
        claim(&ids, number).await.under_way().end(Ok(made()));
    }
    assert!(ids.find_here(id(1)).is_none(), "there are too many");
    tokio::time::advance(Duration::from_secs(599)).await;
    assert!(ids.find_here(id(2)).is_some());
    let _under_way = claim(&ids, 4).await.under_way();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(ids.find_here(id(2)).is_none() && ids.find_here(id(3)).is_none());
    assert!(ids.find_here(id(4)).is_some_and(|found| found.ended.is_none()), "it has not ended");
    assert_eq!(ids.known().changes.len(), 1);
}

/// As while a gateway moves, and all callers try again and again.
#[tokio::test(start_paused = true)]
async fn attempts_with_one_id_push_no_others_out_and_take_no_room() {
    let ids = ids(Duration::from_secs(600), 2);
    claim(&ids, 1).await.under_way().end(Ok(made()));
    for _ in 0..20 {
        claim(&ids, 2).await.under_way().end(Err(moving()));
        drop(claim(&ids, 2).await);
        assert!(ids.known().ended.len() <= 6);
    }
    assert!(before(&ids, 1).await.is_ok(), "there are two");
    claim(&ids, 3).await.under_way().end(Ok(made()));
    assert!(ids.find_here(id(1)).is_none(), "there are too many");
    assert!(ids.find_here(id(2)).is_some() && ids.find_here(id(3)).is_some());
    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(ids.find_here(id(2)).is_none() && ids.find_here(id(3)).is_none());
    let known = ids.known();
    assert!(known.changes.is_empty() && known.ended.is_empty());
    assert_eq!(known.replaced, 0);
}

#[tokio::test(start_paused = true)]
async fn of_a_long_answer_little_is_remembered() {
    const LONG: usize = 64 * 1024;
    let ids = some_ids();
    let long = || "x".repeat(LONG);
    let envelope = Envelope {
        refused: None,
        message: long(),
        result: Some(long().into()),
        event: Some(long().into()),
    };
    let refusal = || {
        let retcode = Retcode::refusal("100-009").expect("a refusal");
        CallError::Refused(Refusal { retcode, message: long(), node: None, http_status: 200 })
    };
    let did = [
        Did::Changed(Answer::Envelope(envelope.clone())),
        Did::SignedIn(envelope.clone(), None, Some(Ok(envelope.clone()))),
        Did::SignedIn(envelope.clone(), None, Some(Err(refusal()))),
        Did::SignedOut(envelope),
    ];
    let made = did.into_iter().map(|did| Ok(Made { did, after: None }));
    let observed = CallError::Observed {
        state: AgentState::Idle,
        not_applied: false,
        cause: CallError::BadReply(long()).into(),
    };
    for (number, ended) in (1..).zip(made.chain([Err(refusal()), Err(observed)])) {
        claim(&ids, number).await.under_way().end(ended);
        let known = ids.find_here(id(number)).and_then(|known| known.ended).expect("known");
        let shown = format!("{known:?}");
        assert!(shown.len() < LONG / 8, "{number}: {} bytes", shown.len());
        if let Ok(Made { did: Did::Changed(Answer::Envelope(envelope)), .. }) = &*known {
            assert!(envelope.result.is_none() && envelope.event.is_none());
        }
    }
}
