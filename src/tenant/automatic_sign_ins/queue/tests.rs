use proptest::prelude::*;

use super::*;

const INTERVAL: Duration = Duration::from_millis(20);

fn agent(id: u32) -> AgentId {
    AgentId::parse(&id.to_string(), &(1..=u32::MAX)).unwrap()
}

fn queue() -> Queue<()> {
    Queue::new(intervals(1))
}

/// The expected interval is so many times the shortest.
fn intervals(times: u32) -> Intervals {
    Intervals { expected: times * INTERVAL, shortest: INTERVAL }
}

fn pop(queue: &mut Queue<()>, now: Instant) -> Option<u32> {
    let popped = queue.pop(now, |_, entry| entry.is_asked_for(now)).map(AgentId::get);
    if let Some(id) = popped {
        queue.remove(agent(id));
    }
    popped
}

fn due_in(queue: &mut Queue<()>, id: u32, lane: Lane, now: Instant) -> Duration {
    match queue.ask(agent(id), lane, 0, now) {
        Standing::Waiting(due) => due.expected.saturating_duration_since(now),
        Standing::Due => panic!("its moment has come"),
    }
}

#[test]
fn an_agent_is_in_the_queue_once_and_keeps_its_place() {
    let (mut queue, now) = (queue(), Instant::now());
    for id in [1, 2, 3, 1, 2, 1] {
        queue.ask(agent(id), Lane::Calls, 0, now);
    }
    assert_eq!(queue.waiting(), 3);
    let popped: Vec<_> = std::iter::from_fn(|| pop(&mut queue, now)).collect();
    assert_eq!(popped, [1, 2, 3]);
}

#[test]
fn the_lanes_take_turns() {
    let (mut queue, now) = (queue(), Instant::now());
    let lanes = [(Lane::Keepers, 1..=5), (Lane::Calls, 11..=12)];
    for (lane, ids) in lanes {
        for id in ids {
            queue.ask(agent(id), lane, 0, now);
        }
    }
    let next = |queue: &mut Queue<()>| queue.pop(now, |_, _| true).map(AgentId::get);
    let popped: Vec<_> = std::iter::from_fn(|| next(&mut queue)).collect();
    assert_eq!(popped, [11, 1, 12, 2, 3, 4, 5]);
}

#[test]
fn an_agent_that_nobody_asks_for_any_more_is_passed_over() {
    let (mut queue, now) = (queue(), Instant::now());
    queue.ask(agent(1), Lane::Calls, 0, now);
    queue.ask(agent(2), Lane::Calls, 0, now);
    let later = now + LATE_CALLERS + INTERVAL * 2;
    queue.ask(agent(2), Lane::Calls, 0, later);
    assert_eq!(pop(&mut queue, later), Some(2));
    assert_eq!((pop(&mut queue, later), queue.len()), (None, 0));
}

#[test]
fn callers_are_told_when_their_turn_comes_by_the_pace_that_is_measured() {
    let (mut queue, mut now) = (queue(), Instant::now());
    for id in 0..1000 {
        assert_eq!(due_in(&mut queue, id + 1, Lane::Calls, now), INTERVAL * id);
    }
    // The gateway is slower than the configured rate: five times the interval for each agent.
    for _ in 0..200 {
        now += INTERVAL * 5;
        pop(&mut queue, now);
    }
    let told = due_in(&mut queue, 1000, Lane::Calls, now).as_secs_f64();
    let right = (INTERVAL * 5 * 800).as_secs_f64();
    assert!((right * 0.95..right * 1.05).contains(&told), "{told} s, not {right} s");

    // Half of the places belong to agents whom other replicas have signed in meanwhile.
    for id in 201..1000 {
        if id % 2 == 0 {
            queue.remove(agent(id));
        }
    }
    for _ in 0..100 {
        now += INTERVAL * 5;
        pop(&mut queue, now);
    }
    let told = due_in(&mut queue, 999, Lane::Calls, now).as_secs_f64();
    let right = (INTERVAL * 5 * 300).as_secs_f64();
    assert!((right * 0.9..right * 1.1).contains(&told), "{told} s, not {right} s");
}

#[test]
fn the_first_in_the_queue_waits_for_the_next_moment() {
    let (mut queue, now) = (queue(), Instant::now());
    queue.ask(agent(1), Lane::Calls, 0, now);
    pop(&mut queue, now);
    assert_eq!(due_in(&mut queue, 2, Lane::Calls, now), INTERVAL);
    assert_eq!(due_in(&mut queue, 2, Lane::Calls, now + INTERVAL / 2), INTERVAL / 2);
    assert_eq!(due_in(&mut queue, 2, Lane::Calls, now + INTERVAL * 2), Duration::ZERO);
}

#[test]
fn agents_that_come_and_go_take_no_memory() {
    let (mut queue, now) = (queue(), Instant::now());
    queue.ask(agent(1), Lane::Calls, 0, now);
    for _ in 0..10_000 {
        queue.ask(agent(2), Lane::Calls, 0, now);
        queue.remove(agent(2));
    }
    let places = queue.lane(Lane::Calls).len();
    assert!(places <= 2 + STALE_MAX + 1, "{places} places for one agent");
    assert_eq!(pop(&mut queue, now), Some(1));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(u32, Lane),
    Remove(u32),
    Pop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lane = prop_oneof![Just(Lane::Calls), Just(Lane::Keepers)];
    let step = prop_oneof![
        4 => (1..20_u32, lane).prop_map(|(id, lane)| Step::Ask(id, lane)),
        1 => (1..20_u32).prop_map(Step::Remove),
        2 => Just(Step::Pop),
    ];
    prop::collection::vec(step, 0..200)
}

fn leave(waiting: &mut [Vec<u32>; 2], id: u32) {
    for lane in waiting {
        lane.retain(|other| *other != id);
    }
}

proptest! {
    /// Compared with a simple model: first come, first served in each lane, and lanes in turn.
    #[test]
    fn whoever_asks_is_served_once_and_in_order(steps in steps()) {
        let (mut queue, now) = (queue(), Instant::now());
        let mut waiting: [Vec<u32>; 2] = Default::default();
        for step in steps {
            match step {
                Step::Ask(id, lane) => {
                    queue.ask(agent(id), lane, 0, now);
                    if !waiting.concat().contains(&id) {
                        waiting[usize::from(lane == Lane::Keepers)].push(id);
                    }
                }
                Step::Remove(id) => {
                    queue.remove(agent(id));
                    leave(&mut waiting, id);
                }
                Step::Pop => {
                    let popped = queue.pop(now, |_, _| true).map(AgentId::get);
                    if let Some(id) = popped {
                        queue.remove(agent(id));
                    }
                    let first = |lane: &Vec<u32>| lane.first().copied();
                    let firsts: Vec<_> = waiting.iter().filter_map(first).collect();
                    prop_assert_eq!(popped.is_none(), firsts.is_empty());
                    if let Some(id) = popped {
                        prop_assert!(firsts.contains(&id));
                        leave(&mut waiting, id);
                    }
                }
            }
            prop_assert_eq!(queue.waiting(), waiting.concat().len());
        }
    }
}

#[test]
fn the_pace_of_one_queue_says_nothing_about_the_next() {
    let (mut queue, mut now) = (queue(), Instant::now());
    assert_eq!(queue.interval(now), INTERVAL);
    for id in 1..=100 {
        queue.ask(agent(id), Lane::Calls, 0, now);
    }
    for _ in 1..100 {
        now += INTERVAL * 5;
        pop(&mut queue, now);
    }
    assert!(queue.interval(now) > INTERVAL * 2, "it is slow");
    assert_eq!(pop(&mut queue, now), Some(100));
    now += Duration::from_secs(12 * 60 * 60);
    assert_eq!(queue.interval(now), INTERVAL);
    for id in 0..10 {
        assert_eq!(due_in(&mut queue, 1 + id, Lane::Calls, now), INTERVAL * id);
    }

    // Whoever is left may have a session that was made in another way.
    pop(&mut queue, now);
    for id in 2..=10 {
        queue.remove(agent(id));
    }
    assert_eq!(queue.interval(now + INTERVAL * 1000), INTERVAL);
    assert_eq!(due_in(&mut queue, 1, Lane::Calls, now + INTERVAL), Duration::ZERO);
}

#[test]
fn an_agent_counts_from_when_it_came_until_it_is_removed() {
    let (mut queue, now) = (queue(), Instant::now());
    queue.ask(agent(1), Lane::Calls, 0, now);
    queue.ask(agent(2), Lane::Keepers, 0, now + INTERVAL);
    assert_eq!((queue.len(), queue.waiting(), queue.oldest()), (2, 2, Some(now)));
    assert_eq!(queue.entry(agent(1)).unwrap().waited(now + 3 * INTERVAL), 3 * INTERVAL);
    assert!(queue.pop(now, |_, _| true).is_some());
    assert_eq!((queue.len(), queue.waiting()), (2, 1));
    assert_eq!(queue.oldest(), Some(now + INTERVAL));
}

#[test]
fn places_of_those_who_left_are_dropped_when_there_are_too_many() {
    let (mut queue, now) = (queue(), Instant::now());
    for id in 1..=3 {
        queue.ask(agent(id), Lane::Calls, 0, now);
    }
    let mut most = 0;
    for _ in 0..200 {
        queue.ask(agent(4), Lane::Calls, 0, now);
        most = most.max(queue.lane(Lane::Calls).len());
        queue.remove(agent(4));
    }
    // Twice the three that are left, and 64, and the newest.
    assert_eq!(most, 2 * 3 + STALE_MAX + 1);
}

#[test]
fn who_is_sent_away_leaves_no_place_behind_and_who_is_due_stays() {
    let (mut queue, now) = (queue(), Instant::now());
    for id in 1..=10 {
        queue.ask(agent(id), Lane::Keepers, 0, now);
    }
    assert_eq!(queue.pop(now, |_, _| true), Some(agent(1)));
    queue.ask(agent(11), Lane::Calls, 0, now);
    let gone = queue.remove_waiting(|entry| entry.lane == Lane::Keepers);
    assert_eq!((gone.len(), queue.len(), queue.waiting()), (9, 2, 1));
    assert_eq!(queue.lane(Lane::Keepers).len(), 0);
    assert_eq!(queue.pop(now, |_, _| true), Some(agent(11)));
}

#[test]
fn half_of_the_places_before_an_agent_may_be_of_the_other_lane() {
    let (mut queue, now) = (queue(), Instant::now());
    for id in 1..=10 {
        queue.ask(agent(id), Lane::Keepers, 0, now);
    }
    assert_eq!(due_in(&mut queue, 11, Lane::Calls, now), INTERVAL);
    assert_eq!(due_in(&mut queue, 12, Lane::Calls, now), 3 * INTERVAL);
    assert_eq!(due_in(&mut queue, 10, Lane::Keepers, now), 11 * INTERVAL);
}

#[test]
fn what_is_expected_changes_with_the_replicas_until_it_is_measured() {
    let (mut queue, mut now) = (queue(), Instant::now());
    for id in 1..=100 {
        queue.ask(agent(id), Lane::Calls, 0, now);
    }
    queue.expect(intervals(3));
    assert_eq!(due_in(&mut queue, 11, Lane::Calls, now), 30 * INTERVAL);
    for _ in 0..50 {
        now += INTERVAL;
        pop(&mut queue, now);
    }
    queue.expect(intervals(3));
    assert!(queue.interval(now) < 2 * INTERVAL, "the others need fewer");
}

#[test]
fn who_may_be_in_time_is_known_by_the_whole_rate_until_the_queue_has_moved_twice() {
    let (mut queue, mut now) = (queue(), Instant::now());
    queue.expect(intervals(3));
    for id in 1..=11 {
        queue.ask(agent(id), Lane::Calls, 0, now);
    }
    let due_in = |queue: &mut Queue<()>, now| match queue.standing(agent(11), now) {
        Standing::Waiting(due) => (due.earliest - now, due.expected - now),
        Standing::Due => panic!("its moment has come"),
    };
    assert_eq!(due_in(&mut queue, now), (10 * INTERVAL, 30 * INTERVAL));
    for _ in 0..2 {
        now += 2 * INTERVAL;
        pop(&mut queue, now);
    }
    assert_eq!(due_in(&mut queue, now), (18 * INTERVAL, 18 * INTERVAL));
}
