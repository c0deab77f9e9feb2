use std::time::SystemTime;

use super::*;
use crate::{
    call::StoreTrouble,
    session::{Cookies, Guid},
};

fn session(origin: Origin) -> Arc<Session> {
    let (guid, cookies) = (Guid::parse("a").unwrap(), Cookies::default());
    let renewed_at = SystemTime::now();
    let (version, made, expires_at) = (1, 1, None);
    Arc::new(Session { guid, origin, version, made, renewed_at, expires_at, cookies })
}

#[test]
fn a_store_that_cannot_be_asked_does_not_say_that_the_agent_was_signed_out() {
    let unavailable = || Err(Obstacle::StoreUnavailable(StoreTrouble::Silent));
    let last = session(Origin::SignedIn);
    let kept = to_be_kept(unavailable(), Some(&last), false).unwrap();
    assert_eq!(kept.map(|session| session.version), Some(last.version));
    assert!(to_be_kept(unavailable(), None, false).unwrap().is_none(), "it is asked again");
    let end = to_be_kept(Ok(None), Some(&last), false);
    assert!(matches!(end, Err(End::NotOurs)), "{end:?}");
    let end = to_be_kept(Ok(Some(session(Origin::Registered))), Some(&last), false);
    assert!(matches!(end, Err(End::Registered)), "{end:?}");
    let end = to_be_kept(unavailable(), Some(&last), true);
    assert!(matches!(end, Err(End::NotOurs)), "this replica knows it: {end:?}");
    assert!(to_be_kept(Ok(Some(last)), None, true).unwrap().is_some(), "signed in elsewhere");
}
