use std::{collections::BTreeSet, ptr, thread};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;
use crate::{id::DEFAULT_AGENT_IDS, session::Guid};

fn agent(id: u32) -> AgentId {
    AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).expect("an agent")
}

fn session(ttl: Option<Duration>) -> NewSession {
    let guid = Guid::parse("guid").expect("a Guid");
    NewSession { guid, origin: Origin::SignedIn, ttl, cookies: <_>::default() }
}

fn put(local: &Local, id: u32, ttl: Option<Duration>) -> Result<Entry, StoreError> {
    local.put(agent(id), &session(ttl))
}

fn with_room_for(sessions: usize) -> Arc<Local> {
    Arc::new(Local::new(NonZeroUsize::new(sessions).expect("not zero")))
}

/// How much later than its time something may be forgotten.
const LATE_MAX: Duration = Duration::from_millis(100);

/// After this time what is of no use any more is forgotten, a little late at most and never early, and all other places are
/// left.
async fn check_after(time: Duration, local: &Arc<Local>, reserved: &[Reservation], room: usize) {
    let known = |agent| Some((agent, local.entry(agent)?));
    let before: Vec<_> = local.agents().into_iter().filter_map(known).collect();
    tokio::time::advance(time).await;
    local.tidy();
    let now = Instant::now();
    let mut with_place: BTreeSet<_> = reserved.iter().map(|place| place.agent).collect();
    for (agent, entry) in before {
        let is_kept = local.entry(agent).is_some();
        let is_over = |after: Duration| entry.expires_at().is_some_and(|at| at + after <= now);
        let is_right = if is_kept { !is_over(LATE_MAX) } else { is_over(Duration::ZERO) };
        assert!(is_right, "{is_kept} {entry:?}");
        if is_kept && entry.session.is_some() {
            with_place.insert(agent);
        }
    }
    let left: Vec<_> = (2001..).map_while(|id| local.reserve(agent(id))).collect();
    assert_eq!(left.len() + with_place.len(), room);
}

#[tokio::test]
async fn an_agent_who_was_signed_out_takes_no_room_and_has_none_for_a_session_that_comes_back() {
    let local = Local::new(NonZeroUsize::new(2).expect("2"));
    let first = put(&local, 1001, None).expect("room");
    put(&local, 1002, None).expect("room");
    local.replace(agent(1001), first.version, |end, _| Entry::end(end, true)).expect("an end");
    put(&local, 1003, None).expect("the room of the one who was signed out");
    assert!(put(&local, 1001, None).is_err());
    assert_eq!(local.sessions(), 2);
}

#[tokio::test(start_paused = true)]
async fn sessions_are_counted_over_every_change() {
    let room = 10;
    let (local, mut reserved) = (with_room_for(room), Vec::new());
    let mut random = StdRng::seed_from_u64(7);
    for step in 0..10_000 {
        let id = random.random_range(1001..1021);
        let version = local.entry(agent(id)).map_or(0, |entry| entry.version);
        match random.random_range(0..9) {
            0 => {
                let ttl = Duration::from_millis(random.random_range(4_500..5_500));
                drop(put(&local, id, Some(ttl)));
            }
            1 => drop(put(&local, id, None)),
            2 => drop(local.replace(agent(id), version, |end, _| Entry::end(end, false))),
            3 => drop(local.forget(agent(id), version)),
            4 => drop(local.offer(agent(id), &Entry::end(version + 1, step % 2 == 0))),
            5 => local.shared(agent(id), version),
            6 => reserved.extend(local.reserve(agent(id))),
            7 => drop(reserved.pop()),
            _ => {
                let time = Duration::from_millis(random.random_range(900..1_100));
                let time = if step % 16 == 0 { END_KEPT } else { time };
                check_after(time, &local, &reserved, room).await;
            }
        }
        let all = local.agents().into_iter().filter_map(|agent| local.entry(agent));
        assert_eq!(local.sessions(), all.filter(|entry| entry.session.is_some()).count());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_makes_room_forgets_a_bounded_number_of_sessions() {
    let room = 2 * DROPPED_AT_ONCE;
    let (local, ttl) = (with_room_for(room), Duration::from_secs(1));
    for id in (1001..).take(room) {
        put(&local, id, Some(ttl)).expect("room");
    }
    tokio::time::advance(ttl).await;
    let _place = local.reserve(agent(101)).expect("room");
    assert_eq!(local.sessions(), room - DROPPED_AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn sessions_whose_time_is_over_are_forgotten_as_others_come_though_there_is_room() {
    let (local, ttl) = (with_room_for(1_000), Duration::from_secs(1));
    for id in (1001..).take(100) {
        put(&local, id, Some(ttl)).expect("room");
    }
    tokio::time::advance(ttl + LATE_ANSWERS).await;
    for id in (2001..).take(100 / DROPPED_FOR_EACH) {
        put(&local, id, None).expect("room");
    }
    assert_eq!(local.sessions(), 100 / DROPPED_FOR_EACH);
}

#[tokio::test(start_paused = true)]
async fn a_call_has_the_room_that_another_has_made_before_it_could() {
    let (local, ttl) = (with_room_for(2), Duration::from_secs(1));
    for id in [1001, 1002] {
        put(&local, id, Some(ttl)).expect("room");
    }
    tokio::time::advance(ttl).await;
    let found = local.with_room(|| {
        let room = local.known(agent(1004)).has_room(agent(1004)).then_some(());
        put(&local, 1003, None).expect("the room of both whose time is over");
        room
    });
    assert_eq!(found, Some(()));
}

#[tokio::test(start_paused = true)]
async fn room_is_made_in_whichever_part_of_the_agents_a_session_is_over() {
    let (local, ttl) = (with_room_for(14_001), Duration::from_secs(1));
    put(&local, 101, Some(ttl)).expect("room");
    for id in 1001..15_001 {
        put(&local, id, None).expect("room");
    }
    tokio::time::advance(ttl).await;
    let part = |id| local.parts.of(agent(id));
    let of_another = |id: &u32| !ptr::eq(part(*id), part(101));
    let newcomer = (102..1000).find(of_another).expect("two parts");
    put(&local, newcomer, None).expect("the room of the one that is over");
    assert!(put(&local, 1000, None).is_err());
    assert_eq!(local.sessions(), 14_001);
}

#[test]
fn all_parts_of_the_agents_share_the_room_to_its_last_place() {
    let local = with_room_for(14_001);
    let is_stored = |id: &u32| put(&local, *id, None).is_ok();
    let taken: usize = thread::scope(|scope| {
        let threads = [1_000..6_000, 6_000..11_000, 11_000..16_000]
            .map(|ids| scope.spawn(move || ids.filter(is_stored).count()));
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!((taken, local.sessions()), (14_001, 14_001));
}

#[tokio::test(start_paused = true)]
async fn whose_owner_had_a_session_is_known_after_its_time_and_takes_no_room() {
    let local = Local::new(NonZeroUsize::MIN);
    for id in 1001..1011 {
        let owners =
            NewSession { origin: Origin::Registered, ..session(Some(Duration::from_secs(5))) };
        local.put(agent(id), &owners).expect("room");
        tokio::time::advance(Duration::from_secs(5)).await;
        local.tidy();
        assert!(local.get(agent(id)).is_none());
        let known = (1001..=id).filter(|id| local.is_let_go(agent(*id))).count();
        assert!((1..=LET_GO_TIMES).contains(&known) && local.sessions() == 0, "{known}");
        assert!(id > 1003 || local.is_let_go(agent(1001)));
    }
    put(&local, 1001, None).expect("room");
    assert!(!local.is_let_go(agent(1001)));
}

#[tokio::test(start_paused = true)]
async fn an_end_is_forgotten_and_a_sign_out_is_not() {
    let local = Local::new(NonZeroUsize::MIN);
    let agents = [1001, 1002].map(agent);
    for (agent, signed_out) in agents.into_iter().zip([false, true]) {
        local.offer(agent, &Entry::end(7, signed_out));
    }
    tokio::time::advance(END_KEPT).await;
    local.tidy();
    assert_eq!(local.agents(), agents[1..]);
    assert!(local.entry(agents[1]).is_some_and(|entry| entry.is_old_end()));
}

/// Two processes could not hear of each other: one has signed the agent out, the other has renewed the session.
#[tokio::test]
async fn a_session_that_was_signed_out_ends_however_often_it_is_renewed_and_no_other_one_does() {
    let made = 10;
    let first = Entry::new(made, session(None)).session.expect("a session");
    let renewed = |version| Entry::renewed(version, &first, first.guid.clone(), None);
    let sign_out = |version| Entry::signed_out(version, made);
    let another = |version| Entry::new(version, session(None));
    let both = Taken::SignedOut;
    for (known, offered, taken, version, is_there) in [
        (sign_out(11), renewed(20), both, 21, false),
        (sign_out(11), renewed(11), both, 12, false),
        (sign_out(11), renewed(10), Taken::Older, 11, false),
        (renewed(20), sign_out(11), both, 21, false),
        (renewed(20), sign_out(20), both, 21, false),
        (renewed(20), sign_out(21), Taken::Yes, 21, false),
        (sign_out(11), another(20), Taken::Yes, 20, true),
        (another(20), sign_out(11), Taken::Older, 20, true),
        // A Guid that was refused may have been renewed before.
        (Entry::end(11, false), renewed(20), Taken::Yes, 20, true),
        (renewed(20), Entry::end(11, true), Taken::Older, 20, true),
    ] {
        let local = Local::new(NonZeroUsize::MIN);
        local.offer(agent(1001), &known);
        let case = format!("{known:?} {offered:?}");
        assert_eq!(local.offer(agent(1001), &offered), taken, "{case}");
        let now = local.entry(agent(1001)).expect("known");
        assert_eq!((now.version, now.session.is_some()), (version, is_there), "{case}");
        assert_eq!(now.unsynced, taken == both, "nobody else knows of it: {case}");
        assert_eq!(local.sessions(), usize::from(is_there));
        assert!(taken != both || (local.is_let_go(agent(1001)) && now.ended == Some(made)));
    }
}

/// One process has only given the session up, or heard that a Guid was refused.
#[tokio::test]
async fn of_two_ends_of_one_version_the_one_that_proves_more_stays() {
    let plain = |version| Entry::end(version, false);
    let refused = |version| Entry::end(version, true);
    let proven = |version| Entry::signed_out(version, 10);
    let is_only_here = |entry: Entry| Entry { unsynced: true, ..entry };
    let both = Taken::SignedOut;
    for (known, offered, taken, left) in [
        (proven(11), plain(11), both, is_only_here(proven(12))),
        (proven(11), refused(11), both, is_only_here(proven(12))),
        (refused(11), plain(11), both, is_only_here(refused(12))),
        (is_only_here(plain(11)), proven(11), Taken::Yes, proven(11)),
        (plain(11), proven(11), Taken::Yes, proven(11)),
        (plain(11), refused(11), Taken::Yes, refused(11)),
        (refused(11), proven(11), Taken::Yes, proven(11)),
        (proven(11), proven(11), Taken::Older, proven(11)),
        // That may be the end of another session.
        (proven(11), plain(12), Taken::Yes, plain(12)),
    ] {
        let local = Local::new(NonZeroUsize::MIN);
        local.offer(agent(1001), &known);
        let case = format!("{known:?} {offered:?}");
        assert_eq!(local.offer(agent(1001), &offered), taken, "{case}");
        let now = local.entry(agent(1001)).expect("known");
        let told = |entry: &Entry| (entry.version, entry.signed_out, entry.ended, entry.unsynced);
        assert_eq!(told(&now), told(&left), "{case}");
    }
}
