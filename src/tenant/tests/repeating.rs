//! A call whose request came to nothing, before and after all repeats of its tenant are used up.

use std::sync::Arc;

use ccgateway_sim::{Fault, Interface, Misbehaviour};
use tokio::net::TcpSocket;

use super::world::{Setup, UNPOLLED, World, agent, context};
use crate::{
    call::{CallError, Obstacle, Outcome},
    gateway::say_busy,
    tenant::{Accepted, Tenant},
};

async fn busy(tenant: &Arc<Tenant>) -> Result<Accepted, CallError> {
    tenant.command(agent(1001), say_busy(None, None), &context(), None).await
}

fn counted(world: &World, cause: &str) -> [u64; 2] {
    let made = world.counted("ccgw_repeats_total", &format!("cause=\"{cause}\""));
    [made, world.counted("ccgw_repeats_over_limit_total", "")]
}

#[tokio::test]
async fn a_refused_guid_is_replaced_but_the_request_is_not_repeated_beyond_the_limit() {
    let world = World::unpolled(&[1001]).await;
    busy(&world.tenant).await.expect("signed in");
    world.gateway.sign_out(1001);
    busy(&world.tenant).await.expect("repeated");
    assert_eq!(counted(&world, "guid"), [1, 0]);

    world.gateway.sign_out(1001);
    world.tenant.repeats.use_up();
    let refused = busy(&world.tenant).await.expect_err("not repeated");
    assert!(refused.refusal().is_some_and(|it| it.retcode.kind().blames_guid()), "{refused}");
    assert_eq!(counted(&world, "guid"), [1, 1]);
    assert_eq!(world.asked(Interface::SayBusy).len(), 4);

    busy(&world.tenant).await.expect("there is a new Guid");
    assert_eq!(world.asked(Interface::SignIn).len(), 3);
}

#[tokio::test]
async fn an_overlapping_call_is_waited_for_only_within_the_limit() {
    let world = World::unpolled(&[1001]).await;
    world.refuse(Interface::SayBusy, "000-007");
    busy(&world.tenant).await.expect("repeated");
    world.refuse(Interface::SayBusy, "000-007");
    world.tenant.repeats.use_up();
    let refused = busy(&world.tenant).await.expect_err("not repeated");
    assert_eq!(refused.outcome(), Outcome::Refused);
    assert_eq!(counted(&world, "overlap"), [1, 1]);
    assert_eq!(world.asked(Interface::SayBusy).len(), 3);
}

#[tokio::test]
async fn what_became_of_a_change_is_asked_only_within_the_limit() {
    let world = World::unpolled(&[1001]).await;
    world.sign_in(1001).await;
    let cut = || Misbehaviour::once(Fault::CutBeforeAnswer).on(Interface::SayBusy);
    world.gateway.misbehave(cut());
    busy(&world.tenant).await.map(drop).unwrap_or_default();
    world.gateway.misbehave(cut());
    world.tenant.repeats.use_up();
    let error = busy(&world.tenant).await.expect_err("not asked");
    assert!(matches!(error, CallError::NoAnswer(_)), "{error}");
    assert_eq!(counted(&world, "read_back"), [1, 1]);
    assert_eq!(world.asked(Interface::AgentStatus).len(), 1);
}

#[tokio::test]
async fn a_request_goes_to_another_address_only_within_the_limit() {
    let world = World::of(Setup { lines: &UNPOLLED, ..Setup::default() }).await;
    world.sign_in(1001).await;
    // Bound and never listening, so that connections are refused.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let closed = socket.local_addr().expect("an address");
    let urls = format!("http://{closed},{}", world.gateway.base_url());
    let lines = [("base_urls", &*urls), ("keep.enabled", "false"), ("breaker.failures", "0")];
    let tenant = world.changed(&lines);
    busy(&tenant).await.expect("the other address");
    assert_eq!(counted(&world, "address"), [1, 0]);

    tenant.repeats.use_up();
    let error = busy(&tenant).await.expect_err("no other address");
    assert_eq!(error.outcome(), Outcome::NotSent);
    assert!(matches!(error.obstacle(), Some(Obstacle::Unreachable { .. })), "{error}");
    assert!(error.to_string().contains("too many requests are repeated"), "{error}");
    assert_eq!(counted(&world, "address"), [1, 1]);
    assert_eq!(world.asked(Interface::SayBusy).len(), 1);
}
