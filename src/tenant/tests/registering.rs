//! Sessions that their owners hand in.

use std::sync::Arc;

use http::HeaderValue;

use super::world::{Setup, UNPOLLED, World, agent, context};
use crate::session::{Cookies, Guid, NewSession, Origin, Session};

async fn register(world: &World, guid: &str) -> Arc<Session> {
    let guid = Guid::parse(guid).expect("a Guid");
    let deadline = context().deadline;
    world.tenant.register(agent(1001), guid, None, deadline).await.expect("registered")
}

#[tokio::test]
async fn a_balancers_cookies_are_kept_as_long_as_the_guid_names_the_same_node() {
    let world = World::unpolled(&[]).await;
    let (origin, cookies) = (Origin::SignedIn, Cookies::default());
    cookies.set(&HeaderValue::from_static("lb=1"), None);
    let guid = Guid::parse("secret.AgentGateway1").expect("a Guid");
    let session = NewSession { guid, origin, ttl: None, cookies };
    world.tenant.sessions.put(agent(1001), session).await.expect("stored");
    let same_node = register(&world, "other.AgentGateway1").await;
    assert_eq!(same_node.cookies.header(), Some(HeaderValue::from_static("lb=1")));
    let another_node = register(&world, "other.AgentGateway2").await;
    assert_eq!(another_node.cookies.header(), None);
}

#[tokio::test]
async fn a_gateway_has_guids_unless_it_is_said_to_have_none() {
    for (mode, has_guids) in [("dynamic", true), ("static", true), ("none", false)] {
        let lines = [UNPOLLED[0], ("auth_mode", mode)];
        let world = World::of(Setup { lines: &lines, ..Setup::default() }).await;
        assert_eq!(world.tenant.has_guids(), has_guids, "{mode}");
    }
}

#[tokio::test]
async fn the_newest_session_is_the_one_with_the_highest_version() {
    let world = World::unpolled(&[]).await;
    assert!(world.tenant.is_newest(agent(1001), 1), "there is no other");
    let version = register(&world, "a").await.version;
    assert!(world.tenant.is_newest(agent(1001), version));
    assert!(!world.tenant.is_newest(agent(1001), version - 1));
}
