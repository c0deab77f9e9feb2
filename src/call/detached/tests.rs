use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{advance, sleep};

use super::*;

const TIME: Duration = Duration::from_secs(10);

struct Call {
    wait: CallerWait,
    cutoff: Cutoff,
    deadline: Deadline,
    answered: Option<oneshot::Receiver<CallError>>,
}

fn call() -> Call {
    let (early, answered) = oneshot::channel();
    let (cutoff, deadline) = (Cutoff::default(), Deadline::new(Instant::now(), TIME));
    let wait = CallerWait::of(Waiting::Caller(deadline, early), cutoff.clone());
    Call { wait, cutoff, deadline, answered: Some(answered) }
}

/// Whether it may start something now, and lasts beyond its caller's deadline.
fn goes_on(call: &Call) -> [bool; 2] {
    let later = call.deadline.start_by() + Duration::from_millis(1);
    [call.wait.may_start().is_ok(), call.wait.lasts_until(later)]
}

#[tokio::test(start_paused = true)]
async fn work_lasts_as_long_as_its_caller_unless_it_is_committed() {
    let leave = |call: &mut Call| call.answered = None;
    let be_answered = |call: &mut Call| call.wait.answer(CallError::Internal);
    let wait = |_: &mut Call| {};
    for (what, end) in [("waits", wait as fn(&mut Call)), ("left", leave), ("told", be_answered)] {
        let (mut call, waits) = (call(), what == "waits");
        end(&mut call);
        assert_eq!(goes_on(&call), [waits, false], "{what}");
        assert_eq!(call.wait.lasts_until(call.deadline.start_by()), what != "told", "{what}");
        assert_eq!(call.wait.is_awaited(), waits, "{what}");
        call.wait.commit(true);
        assert_eq!(goes_on(&call), [true, true], "{what}, committed");
        call.wait.commit(false);
        assert_eq!(goes_on(&call), [waits, false], "{what}, no more");
        call.cutoff.give();
        call.wait.commit(true);
        assert!(call.wait.may_start().is_err(), "{what}, at the end of the bridge");
    }
    let call = call();
    advance(TIME).await;
    assert_eq!(goes_on(&call), [false, false], "too late");
    let bridge = CallerWait::of_bridge(Cutoff::default());
    assert!(bridge.may_start().is_ok() && bridge.is_awaited());
    assert!(bridge.lasts_until(Instant::now() + TIME));
}

#[tokio::test(start_paused = true)]
async fn whoever_works_hears_why_nobody_waits_any_more() {
    let mut left = call();
    left.answered = None;
    assert_eq!(left.wait.abandoned().await, Abandoned::Gone);
    let mut late = call();
    assert_eq!(late.wait.abandoned().await, Abandoned::Deadline);
    assert_eq!(Instant::now(), late.deadline.answer_by());
    let mut told = call();
    told.wait.answer(CallError::Internal);
    for is_committed in [false, true] {
        told.wait.commit(is_committed);
        assert_eq!(told.wait.abandoned().now_or_never(), None);
    }
    told.cutoff.give();
    assert_eq!(told.wait.abandoned().now_or_never(), Some(Abandoned::Cutoff));
    told.wait.commit(false);
    assert_eq!(told.wait.abandoned().now_or_never(), None, "it has been told already");
    let mut cut = call();
    cut.cutoff.give();
    assert_eq!(cut.wait.abandoned().now_or_never(), Some(Abandoned::Cutoff));
}

#[tokio::test(start_paused = true)]
async fn only_committed_work_outlasts_its_caller_who_is_told_that_nothing_was_sent() {
    let untouched = Untouched::at_the_start();
    for is_committed in [false, true] {
        let mut late = call();
        late.wait.commit(is_committed);
        let done = late.wait.before_sending(&untouched, Wait::Store, sleep(2 * TIME)).await;
        assert_eq!(done.is_ok(), is_committed);
        let told = late.answered.as_mut().and_then(|answered| answered.try_recv().ok());
        let is_unsent = told
            .as_ref()
            .is_some_and(|error| matches!(error.obstacle(), Some(Obstacle::Deadline(Wait::Store))));
        assert_eq!(is_unsent, is_committed, "{told:?}");

        let mut cut = call();
        cut.wait.commit(is_committed);
        cut.cutoff.give();
        let done = cut.wait.before_sending(&untouched, Wait::Store, sleep(2 * TIME)).await;
        assert!(matches!(done, Err(Obstacle::ShuttingDown)), "{done:?}");
    }
}
