//! The poll for all agents, and which kind of poll is switched on.

use std::time::Duration;

use ccgateway_sim::{Options, Polls, Simulator};

use super::{client::Agent, start, until};

fn all() -> Options {
    Options { polls: Polls::All, ..Options::default() }
}

/// A gateway with one poll for all agents, of whom these are signed in.
async fn with_agents<const N: usize>(options: Options, ids: [u32; N]) -> (Simulator, [String; N]) {
    let sim = Simulator::start(options).await.unwrap();
    let guids = ids.map(|id| sim.sign_in(id));
    (sim, guids)
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(agent, event)| ((*agent).into(), (*event).into())).collect()
}

#[tokio::test]
async fn told_events_have_their_content_as_it_was_given() {
    let sim = start().await;
    assert!(!sim.tell(7, "AgentEvent_Hold", None), "nobody is signed in");
    let agent = Agent::sign_in(&sim, 7).await;
    for (content, expected) in [
        (Some("\"22-1\""), r#","content":"22-1""#),
        (Some("12345678901234567890123"), r#","content":12345678901234567890123"#),
        (Some("null"), r#","content":null"#),
        (None, ""),
    ] {
        assert!(sim.tell(7, "AgentEvent_Hold", content));
        let expected = format!(
            r#"{{"message":"","retcode":"0","event":{{"eventType":"AgentEvent_Hold","workNo":"7"{expected}}}}}"#
        );
        assert_eq!(agent.poll().await.text(), expected);
    }
}

#[tokio::test]
async fn poll_for_all_brings_everybodys_events_at_once() {
    let (sim, [guid, _]) = with_agents(all(), [8, 7]).await;
    let agent = Agent { sim: &sim, id: 8, guid };
    let expected = [
        ("7", "AgentOther_InService"),
        ("7", "AgentState_Ready"),
        ("8", "AgentOther_InService"),
        ("8", "AgentState_Ready"),
    ];
    assert_eq!(agent.poll_all().await.events(), pairs(&expected));

    // A waiting one is woken by anybody's event.
    let (reply, started) = tokio::join!(agent.poll_all(), async {
        until(|| sim.journal().len() == 2).await;
        sim.start_call(7)
    });
    assert!(started);
    let body = r#"{"message":"","retcode":"0","event":[{"eventType":"AgentState_Busy","workNo":"7","content":null}]}"#;
    assert_eq!(reply.text(), body);
}

#[tokio::test]
async fn poll_for_all_without_events_is_byte_exact() {
    let options = Options { poll_wait: Duration::from_millis(20), ..all() };
    let (sim, [guid]) = with_agents(options, [7]).await;
    let agent = Agent { sim: &sim, id: 7, guid };
    assert_eq!(agent.poll_all().await.events().len(), 2);
    assert_eq!(agent.poll_all().await.text(), r#"{"message":"","retcode":"0"}"#);
}

#[tokio::test]
async fn poll_of_the_kind_that_is_off_is_refused() {
    let (sim, [guid]) = with_agents(all(), [7]).await;
    assert_eq!(Agent { sim: &sim, id: 7, guid }.poll().await.retcode(), "000-001");

    let sim = start().await;
    let mut agent = Agent::sign_in(&sim, 7).await;
    assert_eq!(agent.poll_all().await.retcode(), "000-001");
    agent.guid = "nonsense".into();
    assert_eq!(agent.poll_all().await.retcode(), "000-003");
}

#[tokio::test]
async fn poll_for_all_keeps_everybody_signed_in() {
    let idle = Duration::from_secs(1);
    let poll_wait = Duration::from_millis(20);
    let options = Options { idle_sign_out: Some(idle), poll_wait, ..all() };
    let (sim, [guid, _]) = with_agents(options, [7, 8]).await;
    let agent = Agent { sim: &sim, id: 7, guid };
    let started = tokio::time::Instant::now();
    while started.elapsed() < idle + idle / 10 {
        assert_eq!(agent.poll_all().await.retcode(), "0");
    }
    assert!(sim.agent(8).unwrap().signed_in);

    // A refused poll is no sign of life.
    let ended = loop {
        match agent.poll().await.retcode().as_str() {
            "000-001" => {}
            retcode => break retcode.to_owned(),
        }
    };
    assert_eq!(ended, "100-006");
}

#[tokio::test]
async fn poll_for_all_brings_a_new_guid_to_its_caller() {
    let (sim, [guid]) = with_agents(all(), [7]).await;
    let agent = Agent { sim: &sim, id: 7, guid };
    let renewed = sim.renew_guid(7);
    assert_eq!(agent.poll_all().await.set_guid(), renewed.as_deref());
}

#[tokio::test]
async fn poll_for_all_is_about_one_node() {
    let (sim, [first, second]) = with_agents(Options { nodes: 2, ..all() }, [7, 8]).await;
    for (id, guid) in [(7, first), (8, second)] {
        let events = Agent { sim: &sim, id, guid }.poll_all().await.events();
        assert!(events.len() == 2 && events.iter().all(|(agent, _)| *agent == id.to_string()));
    }
}

#[tokio::test]
async fn poll_for_all_tells_of_sessions_that_ended() {
    let (sim, [guid, _]) = with_agents(all(), [7, 8]).await;
    let agent = Agent { sim: &sim, id: 7, guid };
    agent.poll_all().await;
    sim.sign_out(8);
    let expected = [("8", "AgentOther_ShutdownService")];
    assert_eq!(agent.poll_all().await.events(), pairs(&expected));

    sim.sign_in(8);
    agent.poll_all().await;
    sim.take_over(8).unwrap();
    let expected = [
        ("8", "AgentOther_ShutdownService"),
        ("8", "AgentOther_InService"),
        ("8", "AgentState_Ready"),
    ];
    assert_eq!(agent.poll_all().await.events(), pairs(&expected));

    // The caller's own.
    let (reply, ()) = tokio::join!(agent.poll_all(), async {
        until(|| sim.journal().len() == 5).await;
        sim.sign_out(7);
    });
    assert_eq!(reply.retcode(), "100-006");
}
