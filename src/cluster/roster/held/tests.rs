use tokio::time::advance;

use super::*;

const LENGTH: Duration = Duration::from_secs(15);
/// A lease ends a tenth early.
const ENDS_AFTER: Duration = Duration::from_millis(13_500);
const MOMENT: Duration = Duration::from_millis(1);
const NEARLY: Duration = Duration::from_millis(13_499);

fn agent(id: u32) -> AgentId {
    AgentId::parse(&id.to_string(), &(1..=9999)).unwrap()
}

fn sorted(mut agents: Vec<AgentId>) -> Vec<AgentId> {
    agents.sort();
    agents
}

/// How many agents are polled without a lease, if the store does not answer a request for it
/// that is made this late.
async fn overdue(asked_after: Duration) -> usize {
    let agent = agent(101);
    let mut held = Held::none(LENGTH);
    let first = held.ask();
    assert!(held.granted(agent, first));
    advance(asked_after).await;
    let second = held.ask();
    held.unanswered(agent, second);
    advance(LENGTH).await;
    held.end(true, |_| true).overdue
}

/// A replica that was suspended for so long may have lost the agent to another one.
#[tokio::test(start_paused = true)]
async fn a_lease_that_had_ended_when_it_was_asked_for_again_is_not_kept() {
    assert_eq!(overdue(LENGTH / 2).await, 1);
    assert_eq!(overdue(LENGTH).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lease_lasts_from_its_request_and_ends_a_tenth_early() {
    let mut held = Held::none(LENGTH);
    let (early, late, begun) = (held.ask(), held.ask(), Instant::now());
    assert!(early.request < late.request);
    assert_eq!((held.next_end(), held.is_good(agent(101))), (None, false));
    assert!(held.granted(agent(101), early));
    assert_eq!(held.next_end(), Some(begun + ENDS_AFTER));
    advance(NEARLY).await;
    assert!(held.is_good(agent(101)) && held.may_poll(agent(101)));
    assert!(held.granted(agent(102), late), "an answer that is just in time");
    advance(MOMENT).await;
    assert!(!held.is_good(agent(101)) && !held.may_poll(agent(101)));
    assert!(!held.granted(agent(103), late), "the answer took longer than the lease lasts");
    assert_eq!(sorted(held.agents()), [101, 102].map(agent));
}

#[tokio::test(start_paused = true)]
async fn what_was_granted_before_a_release_is_gone_with_it() {
    let mut held = Held::none(LENGTH);
    let [before, release, after] = [held.ask(), held.ask(), held.ask()];
    held.release(&[agent(101)], release);
    assert!(!held.granted(agent(101), before));
    assert!(held.agents().is_empty());
    assert!(held.granted(agent(101), release), "only what is older is gone");
    assert!(held.granted(agent(101), after));
    assert!(held.granted(agent(102), before), "another agent's lease");
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_an_older_request_changes_no_newer_lease() {
    let mut held = Held::none(LENGTH);
    let old = held.ask();
    advance(MOMENT).await;
    let (new, begun) = (held.ask(), Instant::now());
    assert!(held.granted(agent(101), new));
    assert!(held.granted(agent(101), old), "it is held, by the newer request");
    assert_eq!(held.next_end(), Some(begun + ENDS_AFTER));
    assert!(!held.refused(agent(101), old) && !held.refused(agent(101), new));
    assert!(held.is_good(agent(101)));
    let last = held.ask();
    assert!(held.refused(agent(101), last), "another replica has it by now");
    assert!(held.agents().is_empty());
    assert!(!held.refused(agent(101), last), "there was none to lose");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_only_assumed_gives_way_to_any_answer() {
    let mut held = Held::none(LENGTH);
    let (old, new) = (held.ask(), held.ask());
    held.assume(agent(101), new);
    assert!(held.may_poll(agent(101)) && !held.is_good(agent(101)));
    assert_eq!((held.overdue().len(), held.next_end()), (1, None));
    assert!(held.granted(agent(101), old));
    assert!(held.is_good(agent(101)));
    held.assume(agent(101), new);
    assert_eq!((held.overdue().len(), held.is_good(agent(101))), (0, true), "a good one stays");
    held.assume(agent(102), new);
    assert!(held.refused(agent(102), old));
    assert_eq!(held.agents(), [agent(101)]);
}

/// One lease ends, and the store has not answered the request to renew it if `unanswered`.
async fn ended(unanswered: bool, keep: bool) -> (Ended, bool) {
    let mut held = Held::none(LENGTH);
    let (first, second) = (held.ask(), held.ask());
    assert!(held.granted(agent(101), first));
    held.unanswered(agent(101), first);
    if unanswered {
        held.unanswered(agent(101), second);
    }
    advance(NEARLY).await;
    let coming = usize::from(unanswered);
    assert_eq!(
        held.end(keep, |_| true),
        Ended { coming, ..Ended::default() },
        "it lasts for a moment"
    );
    advance(MOMENT).await;
    let ended = held.end(keep, |_| true);
    assert_eq!(held.end(keep, |_| true), Ended::default(), "it ends once");
    (ended, held.may_poll(agent(101)))
}

#[tokio::test(start_paused = true)]
async fn a_lease_without_polls_ends_without_a_word() {
    for keep in [false, true] {
        let mut held = Held::none(LENGTH);
        let (first, second) = (held.ask(), held.ask());
        assert!(held.granted(agent(101), first));
        held.unanswered(agent(101), second);
        advance(ENDS_AFTER).await;
        assert_eq!(held.end(keep, |_| false), Ended::default());
        assert_eq!(held.may_poll(agent(101)), keep, "polls may still begin if the store is silent");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_is_polled_on_only_if_the_store_is_silent_and_polls_are_kept() {
    let stopped = || Ended { stopped: vec![agent(101)], ..Ended::default() };
    assert_eq!(ended(false, false).await, (stopped(), false));
    assert_eq!(ended(false, true).await, (stopped(), false));
    assert_eq!(ended(true, false).await, (Ended { unanswered: 1, ..stopped() }, false));
    assert_eq!(ended(true, true).await, (Ended { overdue: 1, ..Ended::default() }, true));
}

#[tokio::test(start_paused = true)]
async fn an_old_answer_does_not_hide_that_the_store_is_silent() {
    let mut held = Held::none(LENGTH);
    let (first, second) = (held.ask(), held.ask());
    for id in [101, 102] {
        assert!(held.granted(agent(id), first));
    }
    held.unanswered(agent(101), second);
    assert!(held.granted(agent(101), first));
    advance(ENDS_AFTER).await;
    // The other lease is over when it is asked for again.
    let third = held.ask();
    held.unanswered(agent(102), third);
    let expected = Ended { stopped: vec![agent(102)], overdue: 1, ..Ended::default() };
    assert_eq!(held.end(true, |_| true), expected);
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_looked_after_for_three_times_its_length_until_it_is_taken() {
    let mut held = Held::none(LENGTH);
    let asked = held.ask();
    for id in 101..=104 {
        assert!(held.granted(agent(id), asked));
    }
    held.release(&[101, 102, 103].map(agent), asked);
    assert_eq!(held.agents(), [agent(104)]);
    held.taken(agent(101));
    held.saw(&[agent(102)], vec![(agent(102), ReplicaId(7))]);
    held.saw(&[agent(103)], Vec::new());
    assert_eq!(held.untaken(), [agent(103)]);
    let wanted = [104, 105].map(agent).into();
    assert_eq!(held.look(&[], &wanted), [103, 105].map(agent).into(), "without those held");
    held.assume(agent(103), asked);
    assert!(held.untaken().is_empty(), "it is held again");
    held.leases.clear();
    advance(3 * LENGTH).await;
    assert_eq!(held.untaken(), [agent(103)]);
    let later = held.ask();
    held.release(&[agent(106)], later);
    assert_eq!(held.released.len(), 4);
    advance(MOMENT).await;
    assert_eq!(held.untaken(), [agent(106)]);
    held.release(&[agent(106)], later);
    assert_eq!(held.released.len(), 1, "the others can matter no more");
}

#[tokio::test(start_paused = true)]
async fn polls_that_end_without_a_lease_are_not_begun_again_and_those_with_one_keep_it() {
    let mut held = Held::none(LENGTH);
    let asked = held.ask();
    held.release(&[agent(101)], asked);
    held.assume(agent(101), asked);
    held.polls_ended(agent(101));
    assert_eq!((held.agents(), held.untaken()), (vec![], vec![]));
    assert!(held.granted(agent(102), asked));
    held.polls_ended(agent(102));
    assert_eq!(held.agents(), [agent(102)]);
}

#[tokio::test(start_paused = true)]
async fn leases_that_end_first_are_renewed_first_and_then_those_that_are_not_held() {
    let mut held = Held::none(LENGTH);
    for id in [103, 101, 102] {
        let asked = held.ask();
        assert!(held.granted(agent(id), asked));
        advance(MOMENT).await;
    }
    let mut agents = [104, 101, 102, 103].map(agent);
    held.sort_by_end(&mut agents);
    assert_eq!(agents, [103, 101, 102, 104].map(agent));
}

#[tokio::test(start_paused = true)]
async fn whoever_is_left_behind_and_lost_again_is_left_alone_until_the_store_answers() {
    let (mut held, left) = (Held::none(LENGTH), agent(105));
    let asked = held.ask();
    held.look(&[], &[left].into());
    held.saw(&[left], vec![(left, ReplicaId(7))]);
    held.saw(&[left], Vec::new());
    assert_eq!(held.unheld_leases().left_behind(true, false), [left]);
    held.assume(left, asked);
    held.polls_ended(left);
    assert!(held.unheld_leases().left_behind(true, false).is_empty());
    held.store_answers();
    assert_eq!(held.unheld_leases().left_behind(true, false), [left]);
}

#[tokio::test(start_paused = true)]
async fn requests_are_numbered_above_those_that_were_made_before() {
    let mut held = Held::after(LeaseRequest(50), LENGTH);
    assert_eq!([held.ask().request, held.ask().request], [51, 52].map(LeaseRequest));
}

/// A replica that comes or goes moves as many. To look through all of them for each one would take a minute.
#[tokio::test]
async fn to_release_many_leases_takes_time_in_proportion_to_their_number() {
    let of = |id: u32| AgentId::parse(&id.to_string(), &(1..=u32::MAX)).unwrap();
    let many: Vec<AgentId> = (1..=40_000).map(of).collect();
    let mut held = Held::none(LENGTH);
    let (asked, begun) = (held.ask(), Instant::now());
    held.release(&many, asked);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(held.untaken().len(), many.len());
}
