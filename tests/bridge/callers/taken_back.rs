//! What a reload takes away from callers with tokens.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use ccgateway_test_support::{Setup, Site, TestBridge, within};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tonic::Code;

use super::{
    NOT_FOUND, PERMISSION_DENIED, UNAUTHENTICATED, UNAVAILABLE,
    by_token::{AUDIENCE, ISSUER, at, claims, is_in, peer, settings, told, watching},
    half::Half,
    issuer::{KeyServer, Signer},
    peer::Peer,
    requests,
};

/// All of the settings but issuers and rules.
const OTHER_TENANT: &str = "tenants.other.base_urls = [\"https://gateway.other.example\"]";

/// A bridge that takes tokens by a key set in a file, which is read again once a day.
struct Place {
    bridge: TestBridge,
    settings: String,
    keys: TempDir,
    signer: Signer,
}

/// The `authorization` header with a token of this key.
fn bearer(signer: &Signer, id: &str) -> String {
    let header = json!({"alg": signer.algorithm(), "kid": id});
    format!("Bearer {}", signer.token(&header, &claims()))
}

impl Place {
    async fn open() -> Self {
        let (keys, signer) = (TempDir::new().expect("a folder"), Signer::es256());
        let path = keys.path().join("keys.json").display().to_string();
        let settings = settings(&format!("jwks_file = {path:?}, refresh = \"24h\""));
        let site = Site::new(<_>::default()).await;
        put(&keys, &[signer.jwk("k")]);
        let bridge = at(&site, settings.clone()).await;
        Self { bridge, settings, keys, signer }
    }

    /// The header of the caller, and a connection with which it has been used.
    async fn known(&self) -> (String, Peer) {
        let (header, mut peer) = (bearer(&self.signer, "k"), peer(&self.bridge).await);
        let told = told(&mut peer, "acme", &header).await;
        assert!(is_in(&told), "{told:?}");
        (header, peer)
    }

    fn reload(&self, settings: &str, listen: Option<SocketAddr>) -> Vec<String> {
        let setup = Setup { settings: settings.to_owned(), listen, ..<_>::default() };
        self.bridge.reload(&setup).taken
    }
}

fn put(folder: &TempDir, keys: &[Value]) {
    let text = json!({ "keys": keys }).to_string();
    fs::write(folder.path().join("keys.json"), text).expect("written");
}

#[tokio::test]
async fn a_reload_that_takes_another_key_set_counts_its_keys_at_once() {
    let place = Place::open().await;
    let (old, mut peer) = place.known().await;
    let watching = watching(&place.bridge, old.clone()).await;
    let newer = Signer::ed_dsa();
    put(&place.keys, &[newer.jwk("newer")]);
    let taken = place.reload(&place.settings, None);
    assert!(taken.iter().all(|key| key.starts_with("issuers.k8s.jwks_file (")), "{taken:?}");
    assert_eq!(told(&mut peer, "acme", &old).await.code(), UNAUTHENTICATED);
    let newer = told(&mut peer, "acme", &bearer(&newer, "newer")).await;
    assert!(is_in(&newer), "{newer:?}");
    let ended = watching.await.expect("no panic").expect("an answer");
    assert_eq!(ended.code(), UNAUTHENTICATED, "{ended:?}");
}

/// At its new address the listener would take what the configuration says; it keeps its old one until the
/// bridge is restarted.
#[tokio::test]
async fn a_listener_that_has_moved_takes_no_tokens_that_are_withdrawn() {
    let moved = Some(([127, 0, 0, 1], 1).into());
    let another = |settings: &str| settings.replace(ISSUER, "https://other.example");
    for change in [|_: &str| OTHER_TENANT.to_owned(), another] {
        let place = Place::open().await;
        let (header, mut peer) = place.known().await;
        place.reload(&change(&place.settings), moved);
        assert_eq!(told(&mut peer, "acme", &header).await.code(), UNAUTHENTICATED);
        assert_eq!(told(&mut peer, "acme", "Basic x").await.code(), UNAUTHENTICATED);
    }
    let place = Place::open().await;
    let (header, mut peer) = place.known().await;
    place.reload(&place.settings.replace("[\"*\"]", "[\"read\"]"), moved);
    let told = told(&mut peer, "acme", &header).await;
    assert!(is_in(&told), "its issuer is as it was: {told:?}");
}

#[tokio::test]
async fn a_listener_that_has_moved_lets_nobody_in_without_a_token_any_more() {
    let place = Place::open().await;
    place.reload(&format!("listeners.default.allow_anonymous = true\n{}", place.settings), None);
    let (header, mut peer) = place.known().await;
    let anonymous = told(&mut peer, "acme", "Basic x").await;
    assert_eq!(anonymous.code(), PERMISSION_DENIED, "it is known as anonymous: {anonymous:?}");
    place.reload(&place.settings, Some(([127, 0, 0, 1], 1).into()));
    assert_eq!(told(&mut peer, "acme", "Basic x").await.code(), UNAUTHENTICATED);
    let told = told(&mut peer, "acme", &header).await;
    assert!(is_in(&told), "its issuer is as it was: {told:?}");
}

/// Nothing else changes when the listener comes back.
#[tokio::test]
async fn a_listener_that_has_moved_is_as_the_configuration_says_when_it_comes_back() {
    let moved = Some(([127, 0, 0, 1], 1).into());
    let another_audience = |place: &Place| place.settings.replace(AUDIENCE, "other");
    let no_rules = |_: &Place| OTHER_TENANT.to_owned();
    for (case, change) in [
        ("another audience of the same token", &another_audience as &dyn Fn(&Place) -> String),
        ("no rules", &no_rules),
    ] {
        let place = Place::open().await;
        let (header, mut peer) = place.known().await;
        let changed = change(&place);
        place.reload(&changed, moved);
        assert_eq!(told(&mut peer, "acme", &header).await.code(), UNAUTHENTICATED, "{case}");
        assert_eq!(place.reload(&changed, None), ["listeners.default"], "{case}");
        let told = told(&mut peer, "acme", &header).await;
        assert!(is_in(&told), "{case}: {told:?}");
        assert_eq!(place.reload(&changed, None), [""; 0], "{case}");
    }
}

#[tokio::test]
async fn a_listener_that_has_moved_takes_tokens_of_an_issuer_that_is_put_back() {
    let moved = Some(([127, 0, 0, 1], 1).into());
    let place = Place::open().await;
    let (header, mut peer) = place.known().await;
    place.reload(&place.settings.replace(AUDIENCE, "other"), moved);
    assert_eq!(told(&mut peer, "acme", &header).await.code(), UNAUTHENTICATED);
    place.reload(OTHER_TENANT, moved);
    assert_eq!(told(&mut peer, "acme", &header).await.code(), UNAUTHENTICATED);
    place.reload(&place.settings, moved);
    let told = told(&mut peer, "acme", &header).await;
    assert!(is_in(&told), "{told:?}");
}

#[tokio::test]
async fn a_request_that_is_half_sent_has_no_right_that_was_taken_away() {
    let narrowed = |place: &Place| place.settings.replace("[\"*\"]", "[\"read\"]");
    let moved_to_another_tenant = |place: &Place| place.settings.replace("other", "secret");
    let another_key = |place: &Place| {
        put(&place.keys, &[Signer::es256().jwk("k")]);
        place.settings.clone()
    };
    let another_audience = |place: &Place| place.settings.replace(AUDIENCE, "somebody else");
    for (tenant, change, expected) in [
        ("acme", &narrowed as &dyn Fn(&Place) -> String, Code::PermissionDenied),
        ("secret", &moved_to_another_tenant, Code::PermissionDenied),
        ("acme", &another_key, Code::Unauthenticated),
        ("acme", &another_audience, Code::Unauthenticated),
    ] {
        let place = Place::open().await;
        let everywhere = place.settings.replace("tenants = [\"acme\"]", "tenants = [\"*\"]");
        place.reload(&everywhere, None);
        let (path, _, message) = requests(tenant).swap_remove(0);
        let header = bearer(&place.signer, "k");
        let half = Half::begin(&place.bridge, &path, &message, &header).await;
        place.reload(&change(&place), None);
        let told = half.end().await;
        assert_eq!(told.code(), expected, "{tenant}: {told:?}");
    }
}

#[tokio::test]
async fn a_change_of_how_keys_are_read_ends_nothing_and_forgets_no_key() {
    let (signer, server) = (Signer::es256(), KeyServer::start().await);
    server.has(&[signer.jwk("k")]);
    let site = Site::new(<_>::default()).await;
    let settings = settings(&format!("jwks_url = {:?}", server.url));
    let bridge = at(&site, settings.clone()).await;
    let header = bearer(&signer, "k");
    let mut peer = peer(&bridge).await;
    assert!(is_in(&told(&mut peer, "acme", &header).await));
    server.says("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let watching = watching(&bridge, header.clone()).await;

    let oftener = settings.replace("jwks_url", "refresh = \"20s\", jwks_url");
    bridge.reload(&Setup { settings: oftener.clone(), ..<_>::default() });
    let known = told(&mut peer, "acme", &header).await;
    assert_eq!(known.code(), NOT_FOUND, "its key is known: {known:?}");
    let leeway = oftener.replace("jwks_url", "leeway = \"20s\", jwks_url");
    bridge.reload(&Setup { settings: leeway.clone(), ..<_>::default() });
    let known = told(&mut peer, "acme", &header).await;
    assert_eq!(known.code(), NOT_FOUND, "its key is known: {known:?}");
    let ended = watching.await.expect("no panic").expect("an answer");
    assert_eq!(ended.code(), UNAUTHENTICATED, "{ended:?}");

    let watching = self::watching(&bridge, header).await;
    let refresh = leeway.replace("\"20s\", leeway", "\"30s\", leeway");
    bridge.reload(&Setup { settings: refresh.clone(), ..<_>::default() });
    let right = refresh.replace("[\"*\"]", "[\"read\"]");
    bridge.reload(&Setup { settings: right, ..<_>::default() });
    let ended = watching.await.expect("no panic").expect("an answer");
    assert_eq!(ended.code(), PERMISSION_DENIED, "only the right was taken away: {ended:?}");
}

/// The clock stands still meanwhile, so that the key server's time does not pass.
#[tokio::test]
async fn whoever_waits_for_keys_that_do_not_come_has_a_place_or_is_refused() {
    const RESOURCE_EXHAUSTED: &str = "8";
    const PROBABLY_NEVER: Duration = Duration::from_secs(30);
    // The clock does not move by itself while a thread is blocked.
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let blocked = spawn_blocking(move || ended.recv());
    tokio::time::pause();
    let (signer, server) = (Signer::es256(), KeyServer::silent().await);
    let settings = settings(&format!("jwks_url = {:?}", server.url));
    let server_limits = "limits.calls = 2\n".to_owned();
    let setup = Setup { settings, server: server_limits, ..<_>::default() };
    let bridge = TestBridge::with(setup).await;
    let mut calls = Vec::new();
    for count in 1..=2 {
        let (header, mut peer) = (bearer(&signer, "k"), peer(&bridge).await);
        calls.push(tokio::spawn(async move { told(&mut peer, "acme", &header).await }));
        let waiting = "ccgw_server_places_in_use{share=\"unfinished_requests\"}";
        let began = SystemTime::now();
        while bridge.scrape().await.get(waiting) != Some(&f64::from(count)) {
            assert!(
                began.elapsed().is_ok_and(|passed| passed < PROBABLY_NEVER),
                "call {count} does not wait in a place"
            );
        }
    }
    let (header, mut last) = (bearer(&signer, "k"), peer(&bridge).await);
    let last = tokio::spawn(async move { told(&mut last, "acme", &header).await });
    let displaced = calls.remove(0).await.expect("no panic");
    assert_eq!(displaced.code(), RESOURCE_EXHAUSTED, "{displaced:?}");
    drop(end);
    let _unblocked = blocked.await;
    tokio::time::resume();
    for waiting in [calls.remove(0), last] {
        let told = within("an answer", waiting).await.expect("no panic");
        assert_eq!(told.code(), UNAVAILABLE, "{told:?}");
    }
    assert_eq!(server.asked(), 1, "for all of them");
}
