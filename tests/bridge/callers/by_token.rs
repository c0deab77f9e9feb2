use std::{fs, time::Duration};

use ccgateway_test_support::{Certificate, Setup, Site, TestBridge, until, within};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{
    HEALTH, PERMISSION_DENIED, REFLECTION, UNAUTHENTICATED, UNAVAILABLE,
    authority::{Authority, tls},
    issuer::{KeyServer, Signer, now, unsigned, with_secret},
    list_services,
    peer::{Peer, Told},
    requests,
};

pub(super) const AUDIENCE: &str = "ccgateway-bridge";
pub(super) const ISSUER: &str = "https://issuer.example";
const SUBJECT: &str = "system:serviceaccount:ivr:acme";

/// The settings of a bridge that takes tokens of an issuer whose keys are there.
pub(super) fn settings(keys: &str) -> String {
    format!(
        "issuers.k8s = {{ issuer = \"{ISSUER}\", audiences = [\"{AUDIENCE}\"], {keys} }}\n\
         callers.ivr = {{ principals = [\"jwt:k8s:system:serviceaccount:ivr:*\"], tenants = [\"acme\"], \
         rights = [\"*\"] }}\n\
         tenants.other.base_urls = [\"https://gateway.other.example\"]"
    )
}

async fn bridge(keys: &str) -> TestBridge {
    TestBridge::with(Setup { settings: settings(keys), ..<_>::default() }).await
}

/// A bridge whose configuration can be changed.
pub(super) async fn at(site: &Site, settings: String) -> TestBridge {
    TestBridge::at(site, &Setup { settings, ..<_>::default() }).await
}

async fn with_file(keys: &[Value]) -> (TestBridge, TempDir) {
    let files = TempDir::new().expect("a folder");
    let path = files.path().join("keys.json");
    fs::write(&path, json!({ "keys": keys }).to_string()).expect("written");
    (bridge(&format!("jwks_file = \"{}\"", path.display())).await, files)
}

pub(super) async fn peer(bridge: &TestBridge) -> Peer {
    Peer::connect(bridge.bridge.grpc_addr(), None).await.expect("connected")
}

pub(super) fn claims() -> Value {
    json!({"iss": ISSUER, "aud": [AUDIENCE, "other"], "sub": SUBJECT, "exp": now() + 600, "nbf": now() - 5})
}

/// The good claims with a change.
fn but(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

/// What a caller with this `authorization` header is told by a method that only reads.
pub(super) async fn told(peer: &mut Peer, tenant: &str, authorization: &str) -> Told {
    let (path, _, message) = requests(tenant)
        .into_iter()
        .find(|(path, ..)| path.ends_with("GetSession"))
        .expect("there");
    peer.call(&path, &message, &[("authorization", authorization)]).await.expect("an answer")
}

pub(super) fn is_in(told: &Told) -> bool {
    ![UNAUTHENTICATED, PERMISSION_DENIED].contains(&told.code())
}

#[tokio::test]
async fn a_token_of_each_algorithm_opens_what_the_rules_say() {
    let signers = [Signer::es256(), Signer::ed_dsa(), Signer::rs256()];
    let keys: Vec<_> =
        (0..).zip(&signers).map(|(id, signer)| signer.jwk(&format!("k{id}"))).collect();
    let (bridge, _files) = with_file(&keys).await;
    for (id, signer) in (0..).zip(&signers) {
        let algorithm = signer.algorithm();
        let token = signer.token(&json!({"alg": algorithm, "kid": format!("k{id}")}), &claims());
        let header = format!("Bearer {token}");
        // With a new connection each, and twice on the same one.
        let mut peer = peer(&bridge).await;
        for _ in 0..2 {
            assert!(is_in(&told(&mut peer, "acme", &header).await), "{algorithm}");
            let [other, unknown] =
                [told(&mut peer, "other", &header).await, told(&mut peer, "nobody", &header).await];
            assert_eq!((other.code(), &other), (PERMISSION_DENIED, &unknown), "{algorithm}");
        }
        let listed = peer.call(REFLECTION, &list_services(), &[("authorization", &header)]).await;
        assert_eq!(listed.expect("an answer").code(), "0");
    }
    let without_id = signers[0].token(&json!({"alg": "ES256"}), &claims());
    let mut peer = peer(&bridge).await;
    assert!(
        is_in(&told(&mut peer, "acme", &format!("bearer  {without_id}")).await),
        "any key that fits"
    );
}

#[tokio::test]
async fn what_is_no_good_token_opens_nothing() {
    let (signer, other) = (Signer::es256(), Signer::es256());
    let rsa = Signer::rs256();
    let (bridge, _files) = with_file(&[signer.jwk("k"), rsa.jwk("r")]).await;
    let (header, good) = (json!({"alg": "ES256", "kid": "k"}), claims());
    let token = |claims: &Value| signer.token(&header, claims);
    let secret = |key: &Signer, alg: &str, id: &str| {
        with_secret(&key.public_bytes(), &json!({"alg": alg, "kid": id}), &good)
    };
    let mut peer = peer(&bridge).await;
    assert!(is_in(&told(&mut peer, "acme", &format!("Bearer {}", token(&good))).await));
    for (case, token) in [
        ("no signature", unsigned(&header, &good)),
        ("an empty signature", format!("{}.", unsigned(&header, &good))),
        ("alg none", format!("{}.", unsigned(&json!({"alg": "none"}), &good))),
        ("alg None", format!("{}.", unsigned(&json!({"alg": "None", "kid": "k"}), &good))),
        ("HMAC with the public key", secret(&signer, "HS256", "k")),
        ("HMAC with the public RSA key", secret(&rsa, "HS256", "r")),
        ("HMAC that calls itself ES256", secret(&signer, "ES256", "k")),
        (
            "another algorithm of the key's family",
            signer.token(&json!({"alg": "ES384", "kid": "k"}), &good),
        ),
        (
            "an algorithm that the key is not for",
            rsa.token(&json!({"alg": "RS512", "kid": "r"}), &good),
        ),
        ("another key", other.token(&header, &good)),
        ("the id of another key", signer.token(&json!({"alg": "ES256", "kid": "r"}), &good)),
        ("an unknown key", signer.token(&json!({"alg": "ES256", "kid": "x"}), &good)),
        ("an embedded key", other.token(&json!({"alg": "ES256", "jwk": other.jwk("x")}), &good)),
        ("another issuer", token(&but("iss", json!("https://evil.example")))),
        ("no issuer", token(&but("iss", Value::Null))),
        ("a list of issuers", token(&but("iss", json!([ISSUER])))),
        ("another audience", token(&but("aud", json!("other")))),
        ("no audience", token(&but("aud", Value::Null))),
        ("expired", token(&but("exp", json!(now() - 600)))),
        ("never expires", token(&but("exp", Value::Null))),
        ("an end that is no number", token(&but("exp", json!("tomorrow")))),
        ("not valid yet", token(&but("nbf", json!(now() + 600)))),
        ("nobody's", token(&but("sub", Value::Null))),
        ("an empty name", token(&but("sub", json!("")))),
        ("a long name", token(&but("sub", json!("x".repeat(600))))),
        ("changed claims", {
            let [good, changed] = [&good, &but("sub", json!("admin"))].map(&token);
            let parts: Vec<_> = good.split('.').collect();
            format!("{}.{}.{}", parts[0], changed.split('.').nth(1).expect("claims"), parts[2])
        }),
        ("more after it", format!("{}.x", token(&good))),
        ("nothing", String::new()),
        ("garbage", "~!".into()),
        ("long", token(&but("x", json!("x".repeat(10_000))))),
    ] {
        let told = told(&mut peer, "acme", &format!("Bearer {token}")).await;
        assert_eq!(told.code(), UNAUTHENTICATED, "{case}: {told:?}");
    }
}

#[tokio::test]
async fn a_token_counts_only_where_tokens_belong() {
    let signer = Signer::ed_dsa();
    let (bridge, _files) = with_file(&[signer.jwk("k")]).await;
    let token = signer.token(&json!({"alg": "EdDSA", "kid": "k"}), &claims());
    let (path, _, message) = requests("acme").swap_remove(0);
    let mut peer = peer(&bridge).await;
    let bearer = format!("Bearer {token}");
    for headers in [
        &[][..],
        &[("authorization", token.as_str())],
        &[("authorization", &format!("Basic {token}"))],
        &[("x-authorization", &bearer)],
        &[("cookie", &bearer)],
        &[("authorization", &bearer), ("authorization", &bearer)],
    ] {
        let told = peer.call(&path, &message, headers).await.expect("an answer");
        assert_eq!(told.code(), UNAUTHENTICATED, "{headers:?}: {told:?}");
    }
    let two = [("authorization", "Basic x"), ("authorization", bearer.as_str())];
    let told = peer.call(&path, &message, &two).await.expect("an answer");
    assert!(is_in(&told), "other schemes are not for the bridge: {told:?}");
    assert_eq!(peer.call(HEALTH, &[], &[]).await.expect("an answer").code(), "0");
}

#[tokio::test]
async fn unknown_keys_are_fetched_once_and_known_ones_outlive_their_server() {
    let (first, second) = (Signer::es256(), Signer::es256());
    let server = KeyServer::start().await;
    server.has(&[first.jwk("first")]);
    let bridge = bridge(&format!("jwks_url = {:?}", server.url)).await;
    until("the keys to be fetched", || server.asked() == 1).await;
    let token = |signer: &Signer, id: &str| {
        format!("Bearer {}", signer.token(&json!({"alg": "ES256", "kid": id}), &claims()))
    };
    let mut peer = peer(&bridge).await;
    for number in 0..1000 {
        let told = told(&mut peer, "acme", &token(&second, &format!("unknown{number}"))).await;
        assert_eq!(told.code(), UNAUTHENTICATED);
    }
    // Ten seconds may have passed meanwhile on a slow machine.
    let asked = server.asked();
    println!("asked {asked} times for 1000 unknown keys");
    assert!(asked < 20, "{asked}");
    server.says("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    assert!(is_in(&told(&mut peer, "acme", &token(&first, "first")).await));
}

#[tokio::test]
async fn a_token_without_a_key_id_is_judged_by_the_key_that_has_signed_it() {
    let [first, second, newer] = [Signer::es256(), Signer::es256(), Signer::es256()];
    let server = KeyServer::start().await;
    server.has(&[first.jwk("first"), second.jwk("second")]);
    let bridge = bridge(&format!("jwks_url = {:?}", server.url)).await;
    let bearer = |signer: &Signer, claims: &Value| {
        format!("Bearer {}", signer.token(&json!({"alg": "ES256"}), claims))
    };
    let expired = but("exp", json!(now() - 600));
    let mut peer = peer(&bridge).await;
    for signer in [&first, &second] {
        let told = told(&mut peer, "acme", &bearer(signer, &expired)).await;
        let said = told.text("grpc-message").replace("%20", " ");
        assert!(said.contains("its token has expired"), "{said}");
    }
    server.has(&[newer.jwk("newer")]);
    // They are read again no sooner than this.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    let told = told(&mut peer, "acme", &bearer(&newer, &claims())).await;
    assert!(is_in(&told), "{told:?}");
}

/// The caller's own problem is told as that even while the keys cannot be read.
#[tokio::test]
async fn a_token_that_cannot_be_checked_is_not_called_bad() {
    let (signer, newer) = (Signer::es256(), Signer::es256());
    let server = KeyServer::start().await;
    let away = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    server.says(away);
    let site = Site::new(<_>::default()).await;
    let bridge = at(&site, settings(&format!("jwks_url = {:?}", server.url))).await;
    let bearer = |signer: &Signer, id: &str, claims: &Value| {
        format!("Bearer {}", signer.token(&json!({"alg": "ES256", "kid": id}), claims))
    };
    let mut peer = peer(&bridge).await;
    let good = bearer(&signer, "k", &claims());
    let unchecked = told(&mut peer, "acme", &good).await;
    assert_eq!(unchecked.code(), UNAVAILABLE, "{unchecked:?}");
    let said = unchecked.text("grpc-message").replace("%20", " ");
    assert!(said.contains("cannot be read"), "{said}");
    assert_eq!(unchecked.text("grpc-retry-pushback-ms"), "10000");
    let of_nobody = told(&mut peer, "nobody", &good).await;
    assert_eq!(of_nobody, unchecked, "whether or not there is such a tenant");
    for bad in [
        "Bearer nonsense".to_owned(),
        bearer(&signer, "k", &but("iss", json!("https://evil.example"))),
        format!("Bearer {}.", unsigned(&json!({"alg": "none"}), &claims())),
    ] {
        assert_eq!(told(&mut peer, "acme", &bad).await.code(), UNAUTHENTICATED, "{bad}");
    }

    // A bridge that has read them once knows those keys, and no newer ones.
    server.has(&[signer.jwk("k")]);
    let knows = at(&site, settings(&format!("jwks_url = {:?}", server.url))).await;
    let mut peer = self::peer(&knows).await;
    assert!(is_in(&told(&mut peer, "acme", &good).await));
    let of_no_key = told(&mut peer, "acme", &bearer(&newer, "newer", &claims())).await;
    assert_eq!(of_no_key.code(), UNAUTHENTICATED, "the keys have just been read: {of_no_key:?}");
    server.says(away);
    // They are read again no sooner than this.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    let of_a_newer_key = told(&mut peer, "acme", &bearer(&newer, "newer", &claims())).await;
    assert_eq!(of_a_newer_key.code(), UNAVAILABLE, "{of_a_newer_key:?}");
}

#[tokio::test]
async fn a_stream_ends_when_the_token_expires() {
    let signer = Signer::es256();
    let (bridge, _files) = with_file(&[signer.jwk("k")]).await;
    // With its leeway of 30 s it is good for twelve seconds.
    let claims = but("exp", json!(now() - 18));
    let token = signer.token(&json!({"alg": "ES256", "kid": "k"}), &claims);
    let watching = watching(&bridge, format!("Bearer {token}")).await;
    // A deadline of its own is much later.
    let told = watching.await.expect("no panic").expect("an answer");
    assert_eq!(told.code(), UNAUTHENTICATED, "{told:?}");
}

#[tokio::test]
async fn a_stream_ends_when_the_certificate_expires_before_the_token() {
    let (signer, files) = (Signer::es256(), TempDir::new().expect("a folder"));
    let path = files.path().join("keys.json").display().to_string();
    fs::write(&path, json!({ "keys": [signer.jwk("k")] }).to_string()).expect("written");
    let own = Certificate::of("localhost", files.path());
    let authority = Authority::new("callers", files.path());
    let settings = format!(
        "listeners.default.tls = {{ certificate_file = {:?}, key_file = {:?}, client_ca_file = {:?} }}\n{}",
        own.pem,
        own.key,
        authority.pem,
        settings(&format!("jwks_file = {path:?}")),
    );
    let bridge = TestBridge::with(Setup { settings, ..<_>::default() }).await;
    let shown = authority.issue_for("spiffe://prod/ivr", Duration::from_secs(12));
    let peer = Peer::connect(bridge.bridge.grpc_addr(), Some(tls(&own, Some(shown)))).await;
    let token = signer.token(&json!({"alg": "ES256", "kid": "k"}), &claims());
    let peer = peer.expect("connected");
    let watching = watching_from(peer, &bridge, format!("Bearer {token}")).await;
    let told = watching.await.expect("no panic").expect("an answer");
    assert_eq!(told.code(), UNAUTHENTICATED, "{told:?}");
    let message = told.text("grpc-message").replace("%20", " ");
    assert!(message.contains("its certificate has expired"), "{message}");
}

#[tokio::test]
async fn calls_and_streams_end_whose_tokens_key_leaves_the_key_set() {
    let [leaves, stays] = [Signer::es256(), Signer::ed_dsa()];
    let files = TempDir::new().expect("a folder");
    let path = files.path().join("keys.json");
    let put = |keys: &[Value]| {
        fs::write(&path, json!({ "keys": keys }).to_string()).expect("written");
    };
    put(&[leaves.jwk("old"), stays.jwk("new")]);
    let settings = settings(&format!("jwks_file = \"{}\", refresh = \"10s\"", path.display()));
    let site = Site::new(<_>::default()).await;
    let bridge = at(&site, settings.clone()).await;
    let other_rights = settings.replace("[\"*\"]", "[\"read\", \"watch\"]");
    let read_before = site.config(&Setup { settings: other_rights, ..<_>::default() });
    let old = leaves.token(&json!({"alg": "ES256", "kid": "old"}), &claims());
    let new = stays.token(&json!({"alg": "EdDSA", "kid": "new"}), &claims());
    let [old, new] = [old, new].map(|token| format!("Bearer {token}"));
    let mut peer = peer(&bridge).await;
    for header in [&old, &new] {
        let told = told(&mut peer, "acme", header).await;
        assert!(is_in(&told), "{told:?}");
    }
    let watching = watching(&bridge, old.clone()).await;

    put(&[stays.jwk("new")]);
    let ended = watching.await.expect("no panic").expect("an answer");
    assert_eq!(ended.code(), UNAUTHENTICATED, "{ended:?}");
    assert_eq!(told(&mut peer, "acme", &old).await.code(), UNAUTHENTICATED);
    let reloaded = bridge.bridge.reload(read_before).expect("a good configuration");
    assert_eq!(reloaded.taken, ["callers.ivr.rights"]);
    let by_old = told(&mut peer, "acme", &old).await;
    assert_eq!(by_old.code(), UNAUTHENTICATED, "the file was read before: {by_old:?}");
    let told = told(&mut peer, "acme", &new).await;
    assert!(is_in(&told), "{told:?}");
}

#[tokio::test]
async fn a_stream_ends_whose_token_is_for_an_audience_that_is_taken_no_more() {
    let signer = Signer::es256();
    let server = KeyServer::start().await;
    server.has(&[signer.jwk("k")]);
    let site = Site::new(<_>::default()).await;
    let settings = settings(&format!("jwks_url = {:?}", server.url));
    let bridge = at(&site, settings.clone()).await;
    let token = signer.token(&json!({"alg": "ES256", "kid": "k"}), &claims());
    let watching = watching(&bridge, format!("Bearer {token}")).await;
    let other_rules = settings.replace("[\"*\"]", "[\"read\", \"watch\"]");
    bridge.reload(&Setup { settings: other_rules.clone(), ..<_>::default() });
    assert!(!watching.is_finished(), "its issuer is as it was");
    let settings = other_rules.replace(AUDIENCE, "somebody else");
    bridge.reload(&Setup { settings, ..<_>::default() });
    let ended = watching.await.expect("no panic").expect("an answer");
    assert_eq!(ended.code(), UNAUTHENTICATED, "{ended:?}");
}

/// Watches events with this `authorization` header, until the bridge ends that.
pub(super) async fn watching(
    bridge: &TestBridge,
    header: String,
) -> JoinHandle<Result<Told, String>> {
    watching_from(peer(bridge).await, bridge, header).await
}

/// The same on this connection.
async fn watching_from(
    mut watcher: Peer,
    bridge: &TestBridge,
    header: String,
) -> JoinHandle<Result<Told, String>> {
    let mut all = requests("acme").into_iter();
    let (path, _, message) = all.find(|(path, ..)| path.ends_with("WatchEvents")).expect("there");
    let watching = tokio::spawn(async move {
        watcher.watch(&path, &message, &[("authorization", header.as_str())]).await
    });
    within("the stream to be open", async {
        let open = "ccgw_tenant_places_in_use{tenant=\"acme\",share=\"watches\"}";
        while bridge.scrape().await.get(open) != Some(&1.0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    watching
}

#[tokio::test]
async fn a_reload_keeps_the_keys_of_an_issuer_that_is_away_and_takes_back_one_that_is_withdrawn() {
    let signer = Signer::es256();
    let server = KeyServer::start().await;
    server.has(&[signer.jwk("k")]);
    let site = Site::new(<_>::default()).await;
    let first = settings(&format!("jwks_url = {:?}", server.url));
    let bridge = at(&site, first.clone()).await;
    let token = signer.token(&json!({"alg": "ES256", "kid": "k"}), &claims());
    let header = format!("Bearer {token}");
    let mut peer = peer(&bridge).await;
    assert!(is_in(&told(&mut peer, "acme", &header).await));

    server.says("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let reload = |settings: String| {
        let config = site.config(&Setup { settings, ..<_>::default() });
        bridge.bridge.reload(config).expect("a good configuration").taken
    };
    let more = first.replace("rights = [\"*\"]", "rights = [\"read\", \"watch\"]");
    assert_eq!(reload(more.clone()), ["callers.ivr.rights"]);
    assert!(is_in(&told(&mut peer, "acme", &header).await), "its keys are known");

    let watching = watching(&bridge, header.clone()).await;
    let another = more.replace("k8s", "other").replace(ISSUER, "https://other.example");
    reload(another);
    let ended = watching.await.expect("no panic").expect("an answer");
    assert_eq!(ended.code(), UNAUTHENTICATED, "{ended:?}");
    assert_eq!(told(&mut peer, "acme", &header).await.code(), UNAUTHENTICATED);
}
