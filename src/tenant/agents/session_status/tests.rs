use std::borrow::Borrow;

use super::*;

/// A keeper with this number, without a task.
fn keeper(number: u64) -> Keeper {
    let (stop, finish) = <(CancellationToken, CancellationToken)>::default();
    Keeper { number, stop, finish, wake: Arc::default() }
}

fn kept(number: u64) -> Event {
    Event::Kept { keeper: keeper(number), cause: "signed in" }
}

fn polled(keeper: u64, health: Health) -> Event {
    Event::Polled { keeper, health, cause: "a poll" }
}

fn failed(otherwise: SessionState) -> Event {
    Event::Failed { cause: "it failed", otherwise }
}

fn ended(keeper: u64, state: SessionState) -> Event {
    Event::Ended { keeper, state: Some(state), cause: "it ended" }
}

fn joined(keeper: u64) -> Event {
    Event::Joined { keeper, node: Node::default() }
}

fn parted(number: u64) -> Event {
    Event::Parted(keeper(number))
}

fn polled_together(health: Health) -> Event {
    Event::PolledTogether { health, cause: "a poll for all" }
}

const SIGN_IN: Event = Event::Begun(Attempt::SignIn);
const SIGN_OUT: Event = Event::Begun(Attempt::SignOut);

/// Applies the events `before`, then `event`. Checks the change that is published, with its cause,
/// and the signals to keepers.
#[track_caller]
fn check(
    before: &[Event],
    event: impl Borrow<Event>,
    told: Option<(SessionState, &str)>,
    keepers: &str,
) {
    let event = event.borrow();
    let mut session = SessionPart::default();
    for event in before {
        let _before = session.on(event.clone());
    }
    let Effects { change, start, signals: Signals { stop, finish, wake }, .. } =
        session.on(event.clone());
    let change = change.map(|change| (change.to, change.cause));
    assert_eq!(change, told, "{before:?}, then {event:?}");
    let names = [("start", start), ("stop", stop), ("finish", finish), ("wake", wake)];
    let names = names.iter().filter_map(|(name, keeper)| Some((name, keeper.as_ref()?.number)));
    let seen: Vec<_> = names.map(|(name, number)| format!("{name} {number}")).collect();
    assert_eq!(seen.join(", "), keepers, "{before:?}, then {event:?}");
}

#[test]
fn attempts_are_told_with_what_comes_of_them() {
    use SessionState::{
        Doubtful, Gone, Kept, Recovering, Registered, SigningIn, SigningOut, Unkept,
    };
    let signing_in = Some((SigningIn, ""));
    check(&[], SIGN_IN, signing_in, "");
    check(&[kept(1)], SIGN_IN, signing_in, "");
    check(&[kept(1)], SIGN_OUT, Some((SigningOut, "")), "");
    check(&[SIGN_IN], kept(1), None, "start 1");
    check(&[SIGN_IN, kept(1)], Event::Done, Some((Kept, "signed in")), "");
    check(&[SIGN_IN, Event::Unkept("off")], Event::Done, Some((Unkept, "off")), "");
    check(&[kept(1), SIGN_IN], kept(2), None, "wake 1");
    check(&[SIGN_IN], failed(Gone), Some((Gone, "it failed")), "");
    check(&[SIGN_OUT], failed(Registered), Some((Registered, "it failed")), "");
    check(&[kept(1), SIGN_IN], failed(Gone), Some((Kept, "it failed")), "");
    check(&[kept(1), SIGN_OUT], failed(Gone), Some((Kept, "it failed")), "");
    check(&[Event::Unkept("off"), SIGN_OUT], failed(Gone), Some((Unkept, "it failed")), "");
    check(&[SIGN_OUT, kept(1)], failed(Gone), Some((Kept, "it failed")), "");
    check(&[], failed(Gone), None, "");
    check(&[kept(1)], failed(Gone), None, "");
    check(&[kept(1), SIGN_OUT], Event::SignedOut, Some((Gone, "signed out")), "stop 1");
    check(&[SIGN_OUT], Event::SignedOut, Some((Gone, "signed out")), "");
    // Another replica keeps the session, or made it first.
    let elsewhere = Some((Kept, ELSEWHERE));
    check(&[SIGN_IN], Event::Done, elsewhere, "");
    check(&[SIGN_IN], Event::Overtaken, Some((Kept, OVERTAKEN)), "");
    check(&[kept(1), SIGN_IN], Event::Overtaken, Some((Kept, OVERTAKEN)), "");
    check(&[SIGN_OUT], failed(Kept), Some((Kept, "it failed")), "");
    check(&[kept(1), SIGN_IN, Event::Stopped], Event::Done, elsewhere, "");
    // The end of a recovery is published, but not each of its attempts.
    let recovering = [kept(1), polled(1, Health::Recovering)];
    check(&recovering, SIGN_IN, None, "");
    check(&recovering, failed(Gone), None, "");
    check(&recovering, kept(2), Some((Kept, "signed in")), "wake 1");
    check(&recovering, SIGN_OUT, Some((SigningOut, "")), "");
    // The gateway has signed the agent in, but no store has the Guid.
    let unstored = "the session was not stored";
    check(&[SIGN_IN], Event::Unstored, Some((Gone, unstored)), "");
    check(&[Event::Unkept("off"), SIGN_IN], Event::Unstored, Some((Gone, unstored)), "");
    check(&[kept(1), SIGN_IN], Event::Unstored, Some((Doubtful, unstored)), "");
    check(&recovering, Event::Unstored, None, "");
    check(
        &[kept(1), SIGN_IN, Event::Unstored],
        polled(1, Health::Recovering),
        Some((Recovering, "a poll")),
        "",
    );
}

#[test]
fn what_is_found_during_an_attempt_counts_when_it_is_over() {
    use SessionState::{Doubtful, Gone, Kept, Lost, Recovering, Registered, Unkept};
    let (doubtful, lost) = (polled(1, Health::Doubtful), polled(1, Health::Recovering));
    check(&[kept(1), SIGN_IN], doubtful.clone(), None, "");
    check(&[kept(1), SIGN_IN, doubtful], failed(Gone), Some((Doubtful, "a poll")), "");
    check(&[kept(1), SIGN_IN, lost], failed(Gone), Some((Recovering, "a poll")), "");
    check(
        &[kept(1), SIGN_IN, polled(1, Health::Good)],
        failed(Gone),
        Some((Kept, "it failed")),
        "",
    );
    let ended = |state| [kept(1), SIGN_IN, Event::KeeperLeft { keeper: 1 }, ended(1, state)];
    check(&ended(Lost), failed(Gone), Some((Lost, "it ended")), "");
    check(&ended(Unkept), failed(Gone), Some((Unkept, "it failed")), "");
    check(&ended(Lost), kept(2), None, "start 2");
    check(&[&ended(Lost)[..], &[kept(2)]].concat(), Event::Done, Some((Kept, "signed in")), "");
    // An owner's session.
    let owner = "handed in by its owner";
    check(&[SIGN_IN], Event::Registered, None, "");
    check(&[SIGN_IN, Event::Registered], failed(Gone), Some((Registered, owner)), "");
    check(&[SIGN_OUT, Event::Registered], Event::SignedOut, Some((Registered, owner)), "");
    check(&[SIGN_OUT, Event::Unregistered], Event::SignedOut, Some((Gone, "signed out")), "");
    check(&[SIGN_IN, Event::Registered], Event::Done, Some((Registered, owner)), "");
    check(&[SIGN_IN, Event::Registered, kept(1)], Event::Done, Some((Kept, "signed in")), "");
    let before = [SIGN_IN, Event::Registered, Event::Done, SIGN_IN];
    check(&before, failed(Gone), Some((Gone, "it failed")), "");
}

#[test]
fn keepers_come_and_go_with_their_sessions() {
    use SessionState::{Doubtful, Gone, Kept, Lost, Recovering, Unkept};
    check(&[], kept(1), Some((Kept, "signed in")), "start 1");
    check(&[kept(1)], kept(2), None, "wake 1");
    check(&[kept(1)], polled(1, Health::Good), None, "");
    check(&[kept(1)], polled(1, Health::Doubtful), Some((Doubtful, "a poll")), "");
    check(&[kept(1)], polled(1, Health::Recovering), Some((Recovering, "a poll")), "");
    check(&[kept(1)], polled(1, Health::Unpolled), Some((Unkept, "a poll")), "");
    check(&[kept(1)], Event::Unkept("unknown"), Some((Unkept, "unknown")), "");
    check(
        &[kept(1), Event::Unkept("unknown")],
        polled(1, Health::Good),
        Some((Kept, "a poll")),
        "",
    );
    check(&[kept(1)], Event::Finish, None, "finish 1");
    check(&[], Event::Finish, None, "");
    // Events of a keeper that was replaced change nothing.
    check(&[kept(1)], polled(7, Health::Recovering), None, "");
    check(&[], polled(1, Health::Good), None, "");
    check(&[kept(1), Event::KeeperLeft { keeper: 7 }], Event::Finish, None, "finish 1");
    check(&[kept(1)], ended(1, Lost), None, "");
    let left = [kept(1), Event::KeeperLeft { keeper: 1 }];
    check(&[kept(1)], Event::KeeperLeft { keeper: 1 }, None, "");
    check(&left, ended(7, Lost), None, "");
    check(&left, ended(1, Lost), Some((Lost, "it ended")), "");
    check(&left, ended(1, Unkept), Some((Unkept, "it ended")), "");
    check(&left, kept(2), None, "start 2");
    check(&[&left[..], &[kept(2)]].concat(), ended(1, Lost), None, "");
    for end in [Event::SignedOut, Event::Registered, Event::Stopped] {
        check(&[&left[..], &[end]].concat(), ended(1, Unkept), None, "");
    }
    check(&[kept(1), SIGN_IN, Event::KeeperLeft { keeper: 1 }], ended(1, Lost), None, "");
    // Another replica keeps the session, and publishes that.
    check(&[kept(1)], Event::Stopped, None, "stop 1");
    check(&left, Event::Ended { keeper: 1, state: None, cause: "" }, None, "");
    check(&left, Event::Elsewhere, None, "");
    check(&[kept(1), Event::Elsewhere], Event::Finish, None, "finish 1");
    // The gateway has forgotten the session.
    let forgotten = Some((Gone, "the gateway has forgotten it"));
    check(&[Event::Unkept("off")], Event::Forgotten, forgotten, "");
    check(&[kept(1)], Event::Forgotten, None, "");
    check(&[], Event::Forgotten, None, "");
}

#[test]
fn the_poll_of_a_node_keeps_sessions_without_keepers() {
    use SessionState::{Doubtful, Gone, Kept, Registered, SigningOut, Unkept};
    let member = [kept(1), joined(1)];
    check(&[kept(1)], joined(1), None, "");
    check(&[kept(1), polled(1, Health::Doubtful)], joined(1), Some((Kept, "")), "");
    check(&member, Event::Done, None, "");
    check(&member, polled_together(Health::Good), None, "");
    check(&member, polled_together(Health::Doubtful), Some((Doubtful, "a poll for all")), "");
    let doubtful = [&member[..], &[polled_together(Health::Doubtful)]].concat();
    check(&doubtful, polled_together(Health::Good), Some((Kept, "a poll for all")), "");
    check(&doubtful, parted(2), None, "start 2");
    // It is told nothing any more, and has nothing to say.
    check(&member, polled(1, Health::Doubtful), None, "");
    check(&member, Event::Finish, None, "");
    check(&member, Event::KeeperLeft { keeper: 1 }, None, "");
    check(&member, ended(1, Gone), None, "");
    check(&member, Event::SignedOut, Some((Gone, "signed out")), "");
    check(&member, Event::Registered, Some((Registered, "handed in by its owner")), "");
    check(&member, Event::Forgotten, None, "");
    check(&member, Event::Unkept("off"), Some((Unkept, "off")), "");
    check(&member, SIGN_OUT, Some((SigningOut, "")), "");
    check(&[&member[..], &[SIGN_OUT]].concat(), failed(Gone), Some((Kept, "it failed")), "");
    // A new session needs a keeper, which finds its node.
    check(&member, kept(2), None, "start 2");
    check(&[&member[..], &[parted(2)]].concat(), kept(3), None, "wake 2");
    // The poll of a node says nothing of those who are no members.
    check(&[kept(1)], polled_together(Health::Doubtful), None, "");
    check(&[&member[..], &[parted(2)]].concat(), polled_together(Health::Doubtful), None, "");
    check(&[kept(1)], parted(2), None, "");
    check(&[], parted(2), None, "");
    check(&[kept(1)], joined(7), None, "");
    check(&[kept(1), joined(7)], Event::Finish, None, "finish 1");
    check(&[], joined(1), None, "");
    check(
        &[kept(1), Event::KeeperLeft { keeper: 1 }, joined(1)],
        ended(1, Gone),
        Some((Gone, "it ended")),
        "",
    );
}

#[test]
fn a_session_that_its_owner_hands_in_is_the_owners() {
    use SessionState::{Gone, Registered};
    let registered = Some((Registered, "handed in by its owner"));
    check(&[kept(1)], Event::Registering, None, "stop 1");
    check(&[kept(1), Event::Registering], Event::Registered, registered, "");
    check(&[kept(1)], Event::Registered, registered, "stop 1");
    check(&[], Event::Registered, None, "");
    let unregistered = Some((Gone, "its owner's Guid was not stored"));
    check(&[kept(1), Event::Registering], Event::Unregistered, unregistered, "");
    check(&[], Event::Unregistered, None, "");
}

/// Statuses that are counted as entered, although no change is published.
#[test]
fn ends_are_counted_where_there_was_nothing_and_not_what_another_replica_keeps() {
    let mut session = SessionPart::default();
    assert_eq!(session.on(Event::Registered).entered, Some(SessionState::Registered));
    assert_eq!(session.on(SIGN_IN).entered, Some(SessionState::SigningIn));
    assert_eq!(session.on(Event::Done).entered, None);
}

/// Checks what has to hold after every event.
#[derive(Clone, Default)]
struct Seen {
    /// The keeper whose task runs.
    keeper: Option<u64>,
    status: Option<SessionState>,
    is_attempted: bool,
}

impl Seen {
    fn check(&mut self, session: &mut SessionPart, event: &Event) {
        let before = self.clone();
        let Effects { change, entered, start, signals } = session.on(event.clone());
        let numbers = [&start, &signals.stop, &signals.finish, &signals.wake]
            .map(|k| k.as_ref().map(|k| k.number));
        let [start, stop, finish, wake] = numbers;
        let about = format!("{before:?} {event:?} {change:?}");
        // At most one keeper: none begins before the previous one has ended, or was told to end.
        for told in [stop, finish, wake].into_iter().flatten() {
            assert_eq!(before.keeper, Some(told), "{about}");
        }
        assert!(start.is_none() || before.keeper.is_none(), "{about}");
        let left = matches!(*event, Event::KeeperLeft { keeper } | Event::Joined { keeper, .. }
            if before.keeper == Some(keeper));
        self.keeper = if left || stop.is_some() { None } else { start.or(before.keeper) };
        // A session has a keeper, or the poll of its node.
        assert!(self.keeper.is_none() || session.node().is_none(), "{about}");
        assert_eq!(session.is_kept(), self.keeper.is_some() || session.node().is_some(), "{about}");
        // Each published change begins with the status before it.
        self.status = session.status();
        if let Some(Change { from, to, .. }) = change {
            assert_eq!((from, Some(to)), (before.status, self.status.or(Some(to))), "{about}");
            assert!(before.status != Some(to) && before.status != self.status, "{about}");
            assert!(entered == Some(to) || self.status.is_none(), "{about}");
        }
        // If the begin of an attempt is published, its end is too.
        assert!(
            !before.is_attempted || self.status == before.status || change.is_some(),
            "{about}"
        );
        // Events of a keeper that was replaced change nothing.
        if let Event::Polled { keeper, .. }
        | Event::KeeperLeft { keeper }
        | Event::Joined { keeper, .. } = event
            && before.keeper != Some(*keeper)
        {
            assert_eq!((self.status, self.keeper), (before.status, before.keeper), "{about}");
        }
        // During an attempt, the status is that of the attempt, whatever keepers find.
        self.is_attempted = match event {
            Event::Begun(Attempt::SignIn) => {
                before.is_attempted || before.status != Some(SessionState::Recovering)
            }
            Event::Begun(Attempt::SignOut) => true,
            Event::Failed { .. }
            | Event::Done
            | Event::Overtaken
            | Event::Unstored
            | Event::SignedOut => false,
            _ => before.is_attempted,
        };
        let attempts = [Some(SessionState::SigningIn), Some(SessionState::SigningOut)];
        assert_eq!(attempts.contains(&self.status), self.is_attempted, "{about}");
        // A record is in use exactly if it has a status.
        assert_eq!(session.is_unused(), self.status.is_none(), "{about}");
        assert!(self.keeper.is_none() || self.status.is_some(), "{about}");
    }
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "keeper {:?}, {:?}", self.keeper, self.status)
    }
}

fn all_events() -> Vec<Event> {
    let ends = [Some(SessionState::Lost), Some(SessionState::Unkept), None];
    let healths = [Health::Good, Health::Unpolled, Health::Doubtful, Health::Recovering];
    let mut events = vec![
        SIGN_IN,
        SIGN_OUT,
        failed(SessionState::Gone),
        failed(SessionState::Kept),
        Event::Done,
        Event::Overtaken,
        Event::Unstored,
        Event::SignedOut,
        Event::Forgotten,
        Event::Registering,
        Event::Registered,
        Event::Unregistered,
        kept(1),
        kept(2),
        Event::Unkept("off"),
        Event::Elsewhere,
        Event::Stopped,
        Event::KeeperLeft { keeper: 1 },
        Event::KeeperLeft { keeper: 2 },
        Event::Finish,
        joined(1),
        parted(3),
        polled_together(Health::Good),
        polled_together(Health::Doubtful),
    ];
    events.extend(ends.map(|state| Event::Ended { keeper: 1, state, cause: "" }));
    events.extend(healths.map(|health| polled(1, health)));
    events
}

/// Checks all sequences of three events, each after a few that put the session into some state.
#[test]
fn what_must_hold_holds_after_every_sequence_of_events() {
    let events = all_events();
    let starts: [&[Event]; 5] = [
        &[],
        &[kept(1)],
        &[kept(1), SIGN_IN],
        &[kept(1), polled(1, Health::Recovering)],
        &[kept(1), joined(1)],
    ];
    let length = events.len();
    for start in starts {
        for number in 0..length.pow(3) {
            let (mut session, mut seen) = (SessionPart::default(), Seen::default());
            let chosen = [number % length, number / length % length, number / length / length];
            for event in start.iter().chain(chosen.iter().filter_map(|&chosen| events.get(chosen)))
            {
                seen.check(&mut session, event);
            }
        }
    }
}

/// Checks long random sequences.
#[test]
fn what_must_hold_holds_over_long_histories() {
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
    let events = all_events();
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut session, mut seen) = (SessionPart::default(), Seen::default());
        for _ in 0..100 {
            seen.check(&mut session, &events[random.random_range(0..events.len())]);
        }
    }
}
