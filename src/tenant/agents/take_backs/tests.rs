use super::*;
use crate::id::DEFAULT_AGENT_IDS;

const SECOND: Duration = Duration::from_secs(1);

fn agent() -> AgentId {
    AgentId::parse("1001", &DEFAULT_AGENT_IDS).unwrap()
}

fn agents() -> AgentRecords {
    AgentRecords::of_test(8, 8)
}

fn attempted(with_another: bool, asked: bool) -> Loss {
    Loss::Attempted { with_another, asked }
}

/// The pauses before a keeper's attempts in seconds, until the agent is given up.
fn pauses(agents: &AgentRecords, now: &mut Instant, mut attempt: impl FnMut(Instant)) -> Vec<u64> {
    let mut seconds = Vec::new();
    loop {
        match agents.permission(agent(), *now) {
            Permission::Now => attempt(*now),
            Permission::After(pause) => {
                seconds.push(pause.as_secs());
                *now += pause;
            }
            Permission::GivenUp => return seconds,
        }
    }
}

#[test]
fn pauses_double_over_attempts_until_the_agent_is_given_up() {
    let (agents, mut now) = (agents(), Instant::now());
    let seconds = pauses(&agents, &mut now, |now| {
        assert!(agents.lost(agent(), attempted(true, false), now));
    });
    assert_eq!(seconds, [5, 10, 20, 40, 60]);
    let expected = TakenOver { agent: agent(), attempts: 6, given_up: true };
    assert_eq!(agents.taken_over(now), [expected]);
    assert_eq!(agents.pause(agent(), now), Some(Pause::Another(60 * SECOND)));

    // An attempt for a caller a minute later restarts the pause, but gives the keeper no new
    // attempts.
    now += 60 * SECOND;
    assert_eq!(agents.pause(agent(), now), None);
    agents.lost(agent(), attempted(true, true), now);
    assert_eq!(agents.pause(agent(), now), Some(Pause::Another(60 * SECOND)));
    assert_eq!(agents.permission(agent(), now), Permission::GivenUp);
    agents.decided(agent());
    assert_eq!(agents.permission(agent(), now), Permission::Now);
}

#[test]
fn sessions_that_are_lost_again_and_again_are_made_anew_ever_more_slowly() {
    let (agents, mut now) = (agents(), Instant::now());
    let seconds = pauses(&agents, &mut now, |now| {
        agents.lost(agent(), Loss::Recovering, now);
        assert!(!agents.lost(agent(), attempted(false, false), now));
    });
    assert_eq!(seconds[..6], [5, 10, 20, 40, 60, 60]);
    assert_eq!(seconds.len(), 23);
    assert_eq!(agents.taken_over(now), [], "no other client was seen");
    assert_eq!(agents.pause(agent(), now), None, "a call need not wait");
}

#[test]
fn an_attempt_that_finds_no_other_client_counts_only_after_a_foreign_sign_out() {
    let (agents, now) = (agents(), Instant::now());
    assert!(!agents.lost(agent(), attempted(false, false), now));
    assert_eq!(agents.taken_over(now), []);

    agents.lost(agent(), Loss::SignedOut, now);
    assert_eq!(agents.permission(agent(), now), Permission::Now);
    assert!(agents.lost(agent(), attempted(false, false), now));
    assert_eq!(agents.permission(agent(), now), Permission::After(5 * SECOND));
    assert!(!agents.lost(agent(), attempted(false, false), now), "one sign-out, one attempt");
    assert_eq!(agents.taken_over(now), [], "the other client has left");
}

/// The gateway says that somebody signed the agent out, and the next sign-in finds that another
/// client has it.
#[test]
fn a_sign_out_and_the_client_that_is_found_after_it_are_one_loss() {
    let (agents, now) = (agents(), Instant::now());
    agents.lost(agent(), Loss::SignedOut, now);
    assert!(agents.lost(agent(), attempted(true, false), now));
    assert_eq!(agents.taken_over(now)[0].attempts, 1);
    assert_eq!(agents.permission(agent(), now), Permission::After(5 * SECOND));
}

#[test]
fn a_session_whose_guid_was_lost_is_nobody_elses_for_as_long_as_it_can_last() {
    let (agents, now) = (agents(), Instant::now());
    agents.lost(agent(), Loss::Guid, now);
    let late = now + 149 * SECOND;
    assert!(!agents.lost(agent(), attempted(true, false), late));
    assert_eq!(agents.taken_over(late), []);
    // The gateway is not asked again at once.
    assert_eq!(agents.permission(agent(), late), Permission::After(5 * SECOND));
    // No longer than it can last.
    assert_eq!(agents.pause(agent(), late), Some(Pause::Guidless(SECOND)));
    assert_eq!(agents.pause(agent(), late + SECOND), None, "nobody else was found");
    // However often it is asked.
    for second in 1..100 {
        assert!(!agents.lost(agent(), attempted(true, false), now + second * SECOND));
    }
    agents.decided(agent());
    agents.lost(agent(), Loss::Guid, now);
    assert!(!agents.lost(agent(), attempted(true, false), late));
    let later = now + 154 * SECOND;
    assert!(agents.lost(agent(), attempted(true, false), later));
    assert_eq!(agents.taken_over(later)[0].attempts, 1);
    assert_eq!(agents.pause(agent(), later), Some(Pause::Another(5 * SECOND)));
}

#[test]
fn a_sign_in_or_a_sign_out_ends_a_session_whose_guid_was_lost() {
    let (agents, now) = (agents(), Instant::now());
    agents.lost(agent(), Loss::Guid, now);
    agents.guid_known(agent(), now - SECOND);
    assert_eq!(agents.len(), 1, "it was asked before that");
    agents.guid_known(agent(), now);
    assert_eq!(agents.len(), 0);
    assert!(agents.lost(agent(), attempted(true, false), now));
    agents.decided(agent());
    agents.lost(agent(), Loss::Guid, now);
    agents.lost(agent(), Loss::SignedOut, now);
    assert!(agents.lost(agent(), attempted(true, false), now));
    assert_eq!(agents.taken_over(now)[0].attempts, 1);
}

#[test]
fn a_sign_out_whose_answer_was_lost_may_have_ended_that_session_until_it_is_known_to_be_good() {
    let (agents, now) = (agents(), Instant::now());
    for end in [
        |agents: &AgentRecords, _| agents.decided(agent()),
        |agents: &AgentRecords, now| {
            agents.was_good(agent(), now - SECOND);
            assert_eq!(agents.len(), 1, "it was asked before");
            agents.was_good(agent(), now);
        },
    ] {
        agents.lost(agent(), Loss::SignOut { made: 7 }, now);
        assert_eq!(agents.taken_over(now), []);
        assert_eq!(agents.permission(agent(), now), Permission::Now);
        let unclear = [7, 8].map(|made| agents.unclear_sign_out(agent(), made));
        assert_eq!(unclear, [Some(now), None]);
        end(&agents, now);
        assert_eq!(agents.unclear_sign_out(agent(), 7), None);
        assert_eq!(agents.len(), 0);
    }
}

#[test]
fn a_fight_in_which_every_guid_is_lost_ends_all_the_same() {
    let (agents, mut now) = (agents(), Instant::now());
    let seconds = pauses(&agents, &mut now, |now| {
        agents.lost(agent(), attempted(true, false), now);
        agents.lost(agent(), Loss::Guid, now);
    });
    assert!(seconds.len() <= 12, "{seconds:?}");
}

#[test]
fn attempts_for_callers_do_not_add_up_beyond_the_point_of_giving_up() {
    let (agents, now) = (agents(), Instant::now());
    for asked in [true; 9] {
        agents.lost(agent(), attempted(true, asked), now);
    }
    assert_eq!(agents.taken_over(now)[0].attempts, 6);
    agents.lost(agent(), attempted(true, false), now);
    assert_eq!(agents.taken_over(now)[0].attempts, 7);
    agents.decided(agent());
    assert_eq!((agents.taken_over(now), agents.len()), (vec![], 0));
    agents.lost(agent(), attempted(true, false), now);
    assert_eq!(
        agents.taken_over(now),
        [TakenOver { agent: agent(), attempts: 1, given_up: false }]
    );
}

#[test]
fn ten_calm_minutes_end_it() {
    let (agents, now) = (agents(), Instant::now());
    for _ in 0..6 {
        agents.lost(agent(), attempted(true, false), now);
    }
    let later = now + CALM;
    assert_eq!(agents.permission(agent(), later), Permission::Now);
    assert_eq!(agents.taken_over(later), []);
    agents.lost(agent(), Loss::SignedOut, later);
    assert!(agents.lost(agent(), attempted(false, false), later));
    assert_eq!(agents.permission(agent(), later), Permission::After(5 * SECOND));
}

#[test]
fn two_records_that_still_count_are_looked_at_for_each_new_one() {
    let (agents, now) = (agents(), Instant::now());
    let id = |id: u32| AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).unwrap();
    for number in 1001..=1004 {
        agents.lost(id(number), attempted(true, false), now);
    }
    let mut known = agents.known();
    let queue = std::iter::from_fn(|| known.lossy.pop());
    let order: Vec<_> = queue.map(|(agent, _)| agent).collect();
    assert_eq!(order, [1003, 1001, 1002, 1004].map(id));
}

#[test]
fn where_pauses_are_long_the_calm_that_ends_it_is_long_too() {
    let (agents, now) = (agents(), Instant::now());
    agents.take_backs.lock().unwrap().first_pause = 10 * SECOND;
    agents.lost(agent(), attempted(true, false), now);
    for (seconds, taken_over) in [(1_199, 1), (1_200, 0)] {
        assert_eq!(agents.taken_over(now + seconds * SECOND).len(), taken_over);
    }
}

#[test]
fn one_record_is_kept_for_all_losses_of_an_agent() {
    let (agents, now) = (agents(), Instant::now());
    for _ in 0..3 {
        agents.lost(agent(), attempted(true, false), now);
    }
    assert_eq!(agents.known().lossy.len(), 1);
}
