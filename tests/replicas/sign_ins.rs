//! An agent is signed in once, however many replicas are asked for it.

use std::time::Duration;

use ccgateway_bridge::{
    client,
    sim::{Fault, Interface, Misbehaviour},
};
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::{Centre, eventually, origin, set_busy};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_calls_at_three_replicas_need_one_sign_in() {
    let centre = Centre::open().await;
    let replicas =
        [centre.replica(None).await, centre.replica(None).await, centre.replica(None).await];
    let slow = Fault::DelayBefore(Duration::from_millis(500));
    centre.gateway.misbehave(Misbehaviour::always(slow).on(Interface::SignIn));
    let mut leaving = JoinSet::new();
    let mut staying = JoinSet::new();
    for call in 0..1_000 {
        // On connections of their own: so many resets end one.
        let replica = &replicas[call % 3];
        let (calls, states) = if call < 500 {
            let channel = client::channel();
            (&mut leaving, client::agent_state(channel, origin(replica.addr)))
        } else {
            (&mut staying, replica.states.clone())
        };
        calls.spawn(async move { set_busy(&states, 1001).await });
    }
    eventually("a sign-in", || centre.asked(Interface::SignIn) > 0).await;
    leaving.shutdown().await;
    for answer in staying.join_all().await {
        // Two replicas may ask for one agent at once, which the gateway refuses: try again.
        let repeated = answer.as_ref().is_err_and(|status| status.code() == Code::Aborted);
        assert!(repeated || answer.is_ok(), "{answer:?}");
    }
    assert_eq!(centre.asked(Interface::SignIn), 1);
}
