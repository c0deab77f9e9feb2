use super::*;
use crate::{
    id::DEFAULT_AGENT_IDS,
    session::{Cookies, Guid},
};

#[test]
fn what_follows_from_a_poll_is_known_for_whatever_it_finds() {
    for (finding, expected) in [
        (Finding::Alive, Follows::Good),
        (Finding::GuidRefused, Follows::NextCarrier),
        (Finding::SignedOut, Follows::NextCarrier),
        (Finding::SignedOutByOthers, Follows::NextCarrier),
        (Finding::Switchover, Follows::NextCarrier),
        (Finding::Other, Follows::Silence),
        (Finding::AnswerLost, Follows::Silence),
        (Finding::Silent, Follows::Silence),
        (Finding::PolledElsewhere, Follows::Elsewhere),
        (Finding::PollsDisabled, Follows::PollsForEach),
    ] {
        assert_eq!(follows(finding), expected, "{finding:?}");
    }
}

fn agent(id: u32) -> AgentId {
    AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).expect("an agent")
}

fn node() -> Node {
    let guid = Guid::parse("279fe21d-2caa-4437-84c3-ab9e9dae20f5.AgentGateway1").expect("a Guid");
    let renewed_at = std::time::SystemTime::now();
    let (origin, cookies) = (Origin::SignedIn, Cookies::default());
    let (version, made, expires_at) = (1, 1, None);
    Node::of(&Session { guid, origin, version, made, renewed_at, expires_at, cookies })
}

fn join(agents: &AgentRecords, id: u32) {
    let keeper = agents.new_keeper(&CancellationToken::new());
    let kept = agents.apply(agent(id), Event::Kept { keeper, cause: "signed in" });
    let keeper = kept.start.expect("there was none").number;
    let _joined = agents.apply(agent(id), Event::Joined { keeper, node: node() });
}

#[test]
fn another_member_carries_the_next_poll_if_one_is_not_answered() {
    let (agents, mut progress) = (AgentRecords::of_test(8, 8), Progress::default());
    join(&agents, 101);
    assert_eq!(progress.next_carrier(&agents, &node()), Some(agent(101)));
    assert!(!Silence::note(&mut progress.silence, Instant::now()));
    assert_eq!(progress.next_carrier(&agents, &node()), Some(agent(101)), "there is no other");
    join(&agents, 102);
    let mut next = || progress.next_carrier(&agents, &node()).map(AgentId::get);
    assert_eq!([next(), next()], [Some(102), Some(101)]);
    progress.silence = None;
    assert_eq!(progress.next_carrier(&agents, &node()), Some(agent(101)), "it was answered");
}

#[test]
fn a_carrier_stays_until_it_parts_and_whoever_may_be_signed_out_comes_first() {
    let (agents, mut progress) = (AgentRecords::of_test(8, 8), Progress::default());
    assert_eq!(progress.next_carrier(&agents, &node()), None);
    for id in [101, 102, 103] {
        join(&agents, id);
    }
    let mut next = |suspects: &[u32]| {
        progress.suspects.extend(suspects.iter().copied().map(agent));
        progress.next_carrier(&agents, &node()).map(AgentId::get)
    };
    assert_eq!([next(&[]), next(&[])], [Some(101); 2]);
    let part = |id| agents.apply(agent(id), Event::SignedOut);
    let _signed_out = part(101);
    assert_eq!(next(&[]), Some(102));
    assert_eq!(next(&[103, 101]), Some(103), "101 is none");
    let _signed_out = part(103);
    assert_eq!(next(&[]), Some(102), "in a circle");
    let _signed_out = part(102);
    assert_eq!(next(&[]), None);
    assert!(agents.end_node(&node()));
}
