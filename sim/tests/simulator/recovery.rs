//! Agents who are switched over to another site.

use std::time::Duration;

use ccgateway_sim::{AgentState, Options, Recovery, Simulator};

use super::{
    client::{Agent, SIGN_IN, call},
    start, until,
};

const FOR_EVER: Duration = Duration::MAX;

#[tokio::test]
async fn everything_is_refused_during_a_switch_over() {
    let sim = start().await;
    assert!(!sim.switch_over(7, FOR_EVER, Recovery::Complete));
    let agent = Agent::sign_in(&sim, 7).await;
    let other = Agent::sign_in(&sim, 8).await;
    let (waiting, begun) = tokio::join!(agent.poll(), async {
        until(|| sim.journal().len() == 7).await;
        sim.switch_over(7, FOR_EVER, Recovery::Complete)
    });
    assert!(begun);
    assert_eq!(waiting.retcode(), "000-004");
    assert_eq!(agent.poll().await.retcode(), "000-004");
    assert_eq!(agent.post("saybusy").await, "000-004");
    assert_eq!(agent.call("PUT", "updateGuid").await.retcode(), "000-004");
    let sign_in = call(&sim, "PUT onlineagent/7/forcelogin", "", SIGN_IN).await.unwrap();
    assert_eq!(sign_in.retcode(), "000-004");
    assert_eq!(other.post("saybusy").await, "0");
    assert_eq!(sim.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn guid_is_good_after_a_switch_over() {
    // Longer than an agent may go without a poll, which cannot be polled meanwhile.
    let idle = Duration::from_secs(1);
    let options = Options { idle_sign_out: Some(idle), ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let agent = Agent::sign_in(&sim, 7).await;
    assert_eq!(agent.post("saybusy").await, "0");
    assert!(sim.switch_over(7, idle + idle / 10, Recovery::Complete));
    let retcode = loop {
        let retcode = agent.poll().await.retcode();
        if retcode != "000-004" {
            break retcode;
        }
    };
    assert_eq!(retcode, "0");
    assert_eq!(sim.agent(7).unwrap().state, AgentState::Busy);
}

#[tokio::test]
async fn lost_session_has_to_sign_in_again() {
    for (recovery, retcode) in [
        (Recovery::TimedOut, "105-005"),
        (Recovery::GuidMismatch, "105-006"),
        (Recovery::SwitchedOff, "105-007"),
    ] {
        let sim = start().await;
        let agent = Agent::sign_in(&sim, 7).await;
        assert!(sim.switch_over(7, Duration::ZERO, recovery));
        assert!(!sim.agent(7).unwrap().signed_in);
        assert_eq!(agent.poll().await.retcode(), retcode);
        assert_eq!(agent.post("saybusy").await, retcode);
        assert_eq!(
            call(&sim, "POST onlineagent/7/work", "", "").await.unwrap().retcode(),
            "100-006"
        );
        let agent = Agent::sign_in(&sim, 7).await;
        assert_eq!(agent.post("saybusy").await, "0");
    }
}
