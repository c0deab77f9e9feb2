use std::{future::pending, time::Duration};

use futures_util::{FutureExt as _, poll};
use tokio::{
    runtime::Builder,
    task::{self, yield_now},
    time::{advance, sleep},
};

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
async fn whoever_works_until_a_moment_hears_only_what_comes_before_it() {
    let (mut late, step) = (call(), Duration::from_millis(1));
    let answer_by = late.deadline.answer_by();
    assert_eq!(late.wait.abandoned_before(answer_by - step).await, None);
    assert_eq!(Instant::now(), answer_by - step);
    let heard = late.wait.abandoned_before(answer_by + step).await;
    assert_eq!((heard, Instant::now()), (Some(Abandoned::Deadline), answer_by));
    late.wait.answer(CallError::Internal);
    assert_eq!(late.wait.abandoned_before(answer_by + step).await, None, "it has been told");
    late.wait.commit(true);
    late.cutoff.give();
    let later = answer_by + TIME;
    assert_eq!(late.wait.abandoned_before(later).await, Some(Abandoned::Cutoff));

    let (mut left, mut cut) = (call(), call());
    left.answered = None;
    cut.cutoff.give();
    assert_eq!(left.wait.abandoned_before(later).await, Some(Abandoned::Gone));
    assert_eq!(cut.wait.abandoned_before(later).await, Some(Abandoned::Cutoff));
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

fn deadline() -> Deadline {
    Deadline::new(Instant::now(), TIME)
}

/// Waits until all of this work has ended.
async fn ended(tasks: &Tasks) {
    tasks.close();
    tasks.wait().await;
}

/// A test is no task.
fn is_in_task() -> bool {
    task::try_id().is_some()
}

#[tokio::test(start_paused = true)]
async fn its_caller_does_the_work_and_a_task_the_rest_when_the_caller_has_left() {
    let tasks = Tasks::default();
    let [(go_on, first), (end, second)] = [(); 2].map(|()| oneshot::channel::<()>());
    let (tell, told) = oneshot::channel();
    let work = |mut wait: CallerWait| async move {
        let in_task = is_in_task();
        first.await.expect("told to");
        let with_caller = (in_task || is_in_task(), wait.is_awaited());
        second.await.expect("told to");
        let without = (is_in_task(), wait.is_awaited());
        let _heard = tell.send((with_caller, without, wait.abandoned().await));
        Ok(())
    };
    let mut call = Box::pin(detached(&tasks, deadline(), Cutoff::default(), work));
    assert!(poll!(&mut call).is_pending());
    go_on.send(()).expect("it waits");
    assert!(poll!(&mut call).is_pending());
    drop(call);
    assert_eq!(tasks.len(), 1, "it is still counted");
    // So that the task waits for the same, and is woken.
    yield_now().await;
    end.send(()).expect("it waits");
    assert_eq!(told.await, Ok(((false, true), (true, false), Abandoned::Gone)));
    ended(&tasks).await;
}

#[tokio::test(start_paused = true)]
async fn work_that_waits_for_its_caller_alone_wakes_when_that_leaves() {
    let (tasks, (done, why)) = (Tasks::default(), oneshot::channel());
    let work = |mut wait: CallerWait| async move {
        let _heard = done.send(wait.abandoned().await);
        Ok(())
    };
    let mut call = Box::pin(detached(&tasks, deadline(), Cutoff::default(), work));
    assert!(poll!(&mut call).is_pending());
    drop(call);
    assert_eq!(why.await, Ok(Abandoned::Gone));
    ended(&tasks).await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_is_answered_early_does_not_wait_for_the_rest() {
    let (tasks, (end, ending)) = (Tasks::default(), oneshot::channel::<()>());
    let known = || CallError::Deadline(Stage::Answer);
    let late = |mut wait: CallerWait| async move { Ok(wait.answering(known, ending).await) };
    let told = detached(&tasks, deadline(), Cutoff::default(), late).await;
    assert!(matches!(told, Err(CallError::Deadline(Stage::Answer))), "{told:?}");
    assert_eq!(tasks.len(), 1, "it goes on");
    end.send(()).expect("it waits");
    ended(&tasks).await;

    let at_once = |mut wait: CallerWait| async move {
        wait.answer(known());
        Ok(7)
    };
    let told = detached(&tasks, deadline(), Cutoff::default(), at_once).await;
    assert_eq!(told.ok(), Some(7), "the result is there as soon as the answer");
}

#[tokio::test(start_paused = true)]
async fn work_that_panics_gives_back_what_it_holds_with_its_caller_or_without() {
    for leaves in [false, true] {
        let tasks = Tasks::default();
        let [(end, ending), (held, given_back)] = [(); 2].map(|()| oneshot::channel::<()>());
        let work = |_| async move {
            let _held = held;
            ending.await.expect("nobody says when");
            Ok(())
        };
        let mut call = Box::pin(detached(&tasks, deadline(), Cutoff::default(), work));
        assert!(poll!(&mut call).is_pending());
        if leaves {
            drop(call);
            drop(end);
        } else {
            drop(end);
            assert!(matches!(call.await, Err(CallError::Internal)));
            assert!(tasks.is_empty());
        }
        given_back.await.expect_err("dropped");
        ended(&tasks).await;
    }
}

#[test]
fn work_ends_with_its_runtime() {
    for by_runtime in [false, true] {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let (tasks, (held, mut given_back)) = (Tasks::default(), oneshot::channel::<()>());
        let of_call = tasks.clone();
        let mut call = Box::pin(async move {
            let work = |_| async move {
                let _held = held;
                pending().await
            };
            detached::<(), _>(&of_call, deadline(), Cutoff::default(), work).await
        });
        runtime.block_on(async { assert!(poll!(&mut call).is_pending()) });
        if by_runtime {
            // Its task is dropped by the runtime, which takes no other one then.
            runtime.spawn(call);
            drop(runtime);
        } else {
            drop(runtime);
            drop(call);
        }
        assert_eq!(given_back.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert!(tasks.is_empty());
    }
}
