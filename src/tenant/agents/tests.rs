use std::time::Duration;

use futures_util::FutureExt as _;
use secrecy::{ExposeSecret as _, SecretString};

use super::*;
use crate::{
    event::{Events, NoRelay},
    id::DEFAULT_AGENT_IDS,
    tenant::password_digest::PasswordDigest,
};

impl AgentRecords {
    /// Records with a queue of this length for each agent, and this many held passwords.
    pub(in crate::tenant) fn of_test(queue: usize, capacity: usize) -> Self {
        let some = |number| NonZeroUsize::new(number).expect("not zero");
        let (kept, kept_bytes, watches) = (some(64), some(1 << 20), some(1));
        let limits = config::Events { kept, kept_bytes, watches };
        Self {
            tenant: TenantId::parse("acme").expect("an id"),
            known: Known::for_agents(some(capacity)).into(),
            announcer: Announcer {
                events: Arc::new(Events::new(limits)),
                relay: Arc::new(NoRelay),
            },
            entered: std::array::from_fn(|_| Counter::default()),
            last_keeper: AtomicU64::new(0),
            queue_limit: queue.into(),
            capacity: some(capacity),
            take_backs: TakeBacks { most: 6, first_pause: Duration::from_secs(5) }.into(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.known().records.all().map(AgentMap::len).sum()
    }
}

fn agent(id: u32) -> AgentId {
    AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).expect("an agent")
}

fn password(password: &str) -> SecretString {
    password.to_owned().into()
}

const MINUTE: Duration = Duration::from_secs(60);

fn digest(of: &str) -> PasswordDigest {
    PasswordDigest::of(&password(of))
}

impl AgentRecords {
    fn note(&self, id: u32, event: Event) -> Applied {
        self.apply(agent(id), event)
    }

    fn kept_by_a_new_keeper(&self, id: u32) -> u64 {
        let keeper = self.new_keeper(&CancellationToken::new());
        let applied = self.note(id, Event::Kept { keeper, cause: "signed in" });
        applied.start.expect("there was none").number
    }
}

#[test]
fn statuses_are_counted_once_each_time_they_are_entered() {
    let agents = AgentRecords::of_test(8, 8);
    let keepers = [101, 102].map(|id| agents.kept_by_a_new_keeper(id));
    for health in [Health::Good, Health::Doubtful, Health::Good] {
        let polled = Event::Polled { keeper: keepers[1], health, cause: "" };
        assert!(agents.note(102, polled).start.is_none());
    }
    let _signed_out = agents.note(101, Event::SignedOut);

    let counts = agents.status_counts();
    let count = |state| counts.iter().find(|count| count.state == state).expect("all of them");
    for (state, now, entered) in [
        (SessionState::Kept, 1, 3),
        (SessionState::Doubtful, 0, 1),
        (SessionState::Gone, 0, 1),
        (SessionState::Lost, 0, 0),
    ] {
        assert_eq!((count(state).now, count(state).entered), (now, entered), "{state}");
    }
    assert_eq!((agents.kept(), agents.kept_count()), (vec![agent(102)], 1));
    assert_eq!(agents.len(), 1, "an agent of whom nothing is known takes no memory");
}

#[test]
fn each_change_is_told_once_and_in_order() {
    let agents = AgentRecords::of_test(8, 8);
    let mut watch = agents.announcer.events.watch(crate::event::Agents::All, None);
    let _signing_in = agents.note(101, Event::Begun(Attempt::SignIn));
    agents.kept_by_a_new_keeper(101);
    for event in [Event::Done, Event::Begun(Attempt::SignOut), Event::SignedOut] {
        assert!(agents.note(101, event).start.is_none());
    }
    let batch = watch.more().now_or_never().expect("there are events");
    let told = batch.events.iter().map(|event| match &event.what {
        What::Session(change) => (change.state, change.cause.clone()),
        What::Gateway(event) => panic!("{event:?}"),
    });
    let expected = [
        (SessionState::SigningIn, ""),
        (SessionState::Kept, "signed in"),
        (SessionState::SigningOut, ""),
        (SessionState::Gone, "signed out"),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected.map(|(state, cause)| (state, cause.into())));
}

#[test]
fn a_keeper_that_is_told_to_end_hears_of_it() {
    let agents = AgentRecords::of_test(8, 8);
    let all = CancellationToken::new();
    let keeper = agents.new_keeper(&all);
    let kept = Event::Kept { keeper: keeper.clone(), cause: "signed in" };
    assert!(agents.note(101, kept.clone()).is_kept);
    assert!(agents.note(101, kept).start.is_none());
    assert!(keeper.wake.notified().now_or_never().is_some(), "it polls at once");
    assert!(agents.note(101, Event::Finish).is_kept, "until its poll is answered");
    assert!(keeper.finish.is_cancelled() && !keeper.stop.is_cancelled());
    assert!(!agents.note(101, Event::Stopped).is_kept);
    assert!(keeper.stop.is_cancelled());
    let next = agents.new_keeper(&all);
    assert_ne!(next.number, keeper.number);
    all.cancel();
    assert!(next.stop.is_cancelled(), "with all others");
}

#[tokio::test(start_paused = true)]
async fn passwords_take_no_more_places_than_there_are() {
    let agents = AgentRecords::of_test(8, 2);
    for id in 101..=103 {
        agents.hold(agent(id), &password("right"));
    }
    assert!(agents.held(agent(102)).is_some());
    assert!(agents.held(agent(103)).is_none(), "there was no room");
    agents.forget_held(agent(101));
    agents.hold(agent(103), &password("right"));
    assert!(agents.held(agent(103)).is_some());
    agents.hold(agent(103), &password("newer"));
    assert_eq!(agents.held(agent(103)).expect("held").expose_secret(), "newer");
    for id in 101..=103 {
        agents.forget_held(agent(id));
    }
    assert_eq!(agents.len(), 0);
}

impl AgentRecords {
    /// Rejects a password for a minute. Returns the agent who has none left because of that.
    fn reject_for_a_minute(&self, id: u32, password: &str) -> Option<AgentId> {
        let until = Instant::now() + MINUTE;
        self.reject(agent(id), digest(password), Rejection::WithoutGuid, until)
    }

    fn is_rejected(&self, id: u32, password: &str) -> bool {
        self.rejection(agent(id), &digest(password)).is_some()
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejected_password_is_known_until_its_time_or_until_it_works() {
    let agents = AgentRecords::of_test(8, 2);
    agents.reject_for_a_minute(101, "wrong");
    assert!(agents.is_rejected(101, "wrong"));
    assert!(!agents.is_rejected(101, "other") && !agents.is_rejected(102, "wrong"));
    tokio::time::advance(MINUTE).await;
    assert!(!agents.is_rejected(101, "wrong"));
    for wrong in ["wrong", "other"] {
        agents.reject_for_a_minute(103, wrong);
    }
    agents.worked(agent(103), &password("wrong"));
    assert!(!agents.is_rejected(103, "wrong"), "it has worked since");
    assert!(agents.is_rejected(103, "other"));

    // Rejections that have ended do not pile up.
    for id in 200..1200 {
        agents.reject_for_a_minute(id, "wrong");
        tokio::time::advance(MINUTE).await;
    }
    assert_eq!((agents.len(), agents.known().totals.rejected), (1, 1));
    assert_eq!(agents.known().rejections.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_room_the_oldest_rejection_makes_some() {
    let agents = AgentRecords::of_test(8, 3);
    for (id, wrong) in [(101, "one"), (102, "one"), (102, "two")] {
        assert_eq!(agents.reject_for_a_minute(id, wrong), None);
        tokio::time::advance(MINUTE / 10).await;
    }
    assert_eq!(agents.reject_for_a_minute(102, "two"), None, "it has a place");
    assert_eq!(agents.reject_for_a_minute(103, "one"), Some(agent(101)));
    assert!(!agents.is_rejected(101, "one") && agents.is_rejected(103, "one"));
    assert_eq!(agents.reject_for_a_minute(104, "one"), None, "102 has another");
    assert!(!agents.is_rejected(102, "one") && agents.is_rejected(102, "two"));
    assert_eq!(agents.known().totals.rejected, 3);
}

/// Old rejections are found in the order of the queue, so a put-back entry must stay at the front.
#[tokio::test(start_paused = true)]
async fn what_has_ended_makes_room_before_what_has_not() {
    let agents = AgentRecords::of_test(8, 3);
    for id in 101..=103 {
        agents.reject_for_a_minute(id, "wrong");
        tokio::time::advance(MINUTE / 6).await;
    }
    tokio::time::advance(MINUTE / 2).await;
    agents.reject_for_a_minute(104, "wrong");
    assert_eq!([101, 102, 103].map(|id| agents.is_rejected(id, "wrong")), [false, true, true]);
}

#[tokio::test(start_paused = true)]
async fn whoever_tries_one_password_after_the_other_takes_few_places() {
    let agents = AgentRecords::of_test(8, 100);
    for attempt in 0..10_000 {
        agents.reject_for_a_minute(101, &attempt.to_string());
    }
    let known = (9_980..10_000).filter(|attempt| agents.is_rejected(101, &attempt.to_string()));
    assert_eq!(known.collect::<Vec<_>>(), (9_992..10_000).collect::<Vec<_>>(), "the newest");
    assert_eq!((agents.len(), agents.known().totals.rejected), (1, REJECTED_MAX));
    let entries = agents.known().rejections.len();
    assert!((REJECTED_MAX..=2 * REJECTED_MAX + 65).contains(&entries), "{entries}");
    // The stale entry of an older rejection does not end the newer one.
    tokio::time::advance(MINUTE / 2).await;
    agents.reject_for_a_minute(101, "9999");
    tokio::time::advance(MINUTE / 2).await;
    agents.reject_for_a_minute(102, "other");
    assert!(agents.is_rejected(101, "9999"));
}

#[test]
fn an_agent_who_is_polled_for_again_is_not_given_up() {
    let (agents, now) = (AgentRecords::of_test(8, 8), Instant::now());
    for _ in 0..6 {
        agents.lost(agent(101), Loss::Attempted { with_another: true, asked: false }, now);
    }
    assert!(agents.taken_over(now)[0].given_up);
    agents.kept_by_a_new_keeper(101);
    assert!(!agents.taken_over(now)[0].given_up);
}

#[test]
fn losses_of_long_ago_take_no_memory() {
    let (agents, mut now) = (AgentRecords::of_test(8, 8), Instant::now());
    for id in 101..1101 {
        agents.lost(agent(id), Loss::Attempted { with_another: true, asked: false }, now);
    }
    assert_eq!(agents.taken_over(now).len(), 1000);
    now += take_backs::CALM;
    assert!(agents.taken_over(now).is_empty());
    for id in 2000..3000 {
        agents.lost(agent(id), Loss::Recovering, now);
    }
    assert_eq!(agents.len(), 1000);
    assert!(agents.known().contested.is_empty());
}

/// They lie behind an entry that counts, so the sweep does not come to them.
#[tokio::test(start_paused = true)]
async fn entries_of_replaced_rejections_are_dropped_when_there_are_too_many() {
    let agents = AgentRecords::of_test(8, 8);
    let reject = |id| {
        agents.reject_for_a_minute(id, "wrong");
        agents.known().rejections.len()
    };
    for id in 101..=103 {
        reject(id);
    }
    // Twice three rejections, and 64.
    let most = 2 * 3 + 64;
    for entries in 4..=most + 1 {
        assert_eq!(reject(103), entries);
    }
    assert_eq!(reject(103), 4, "three that count, and the new one");
    assert!((101..=103).all(|id| agents.is_rejected(id, "wrong")));
}

#[test]
fn a_password_is_wrong_if_it_was_rejected_and_neither_locked_out_nor_without_a_guid() {
    let of = |retcode| {
        let retcode = crate::retcode::Retcode::refusal(retcode).expect("a retcode");
        let (message, node) = (String::new(), None);
        let refusal = crate::call::Refusal { retcode, message, node, http_status: 200 };
        Rejection::of(&crate::call::CallError::Refused(refusal)).expect("not to be repeated")
    };
    assert!(of("100-004").is_password_wrong());
    assert!(!of("110-016").is_password_wrong(), "the account is locked");
    assert!(!Rejection::WithoutGuid.is_password_wrong());
}

#[test]
fn an_attempt_that_meets_no_other_client_leaves_no_record() {
    let (agents, now) = (AgentRecords::of_test(8, 8), Instant::now());
    agents.lost(agent(101), Loss::Attempted { with_another: false, asked: false }, now);
    assert_eq!((agents.len(), agents.known().lossy.len()), (0, 0));
}
