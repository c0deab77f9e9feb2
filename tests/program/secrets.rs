//! Guids and passwords are nowhere in what the process prints or answers, whatever is logged.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ccgateway_bridge::{
    client::{self, AuthorizedChannel},
    keyring::EncryptionKey,
    rpc::proto::{
        GetSessionRequest, RegisterSessionRequest, SetBusyRequest, SignInRequest, SignOutRequest,
        agent_state_client::AgentStateClient,
    },
    session::Guid,
};
use ccgateway_sim::{Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{
    Certificate, Clients, Output, PASSWORD, Program, RedisServer, STORE_KEY, Site,
    collector::{Collector, Conduct},
    command, hides_secrets, key, key_hex,
};
use serde_json::json;
use tempfile::TempDir;
use tonic::{Code, Request, Response};

use crate::{
    reloading::trusting,
    support::{bridge, setup, start},
};

/// All of the admin port that tells anything.
const PAGES: [&str; 7] = [
    "/",
    "/status.json",
    "/agent?tenant=acme&agent=1001",
    "/agent.json?tenant=acme&agent=1001",
    "/log",
    "/metrics",
    "/readyz?verbose",
];

const WRONG: &str = "wrong-canary-password";
const CANARY: &str = "279fe21d-aaaa-4437-84c3-ab9e9dae20f5.AgentGateway1";

fn sign_in(agent: u32, password: &str) -> SignInRequest {
    let password = Some(password.to_owned());
    SignInRequest { agent_id: agent.to_string(), password, ..<_>::default() }
}

fn busy(agent: u32) -> SetBusyRequest {
    SetBusyRequest { agent_id: agent.to_string(), reason: Some(200), ..<_>::default() }
}

#[tokio::test]
async fn no_secret_is_printed_or_answered_at_trace_level() {
    let mut collector = Collector::start(Conduct::Takes).await;
    let files = TempDir::new().expect("a folder");
    let token = files.path().join("token");
    fs::write(&token, "authorization: Bearer canary-token\n").expect("written");
    let traces = format!(
        "[traces]\nendpoint = \"http://{}\"\nsample = 1\nheaders_file = {token:?}\n",
        collector.addr
    );
    let program = start(&traces, &["--log-filter", "trace"]).await;
    let (mut states, mut sessions) =
        (Clients::of(program.grpc).states, Clients::of(program.grpc).sessions);
    let mut answers = String::new();
    let mut heard = |answer: String| answers.push_str(&answer);

    heard(format!("{:?}", sessions.sign_in(sign_in(1001, PASSWORD)).await));
    heard(format!("{:?}", sessions.sign_in(sign_in(1002, WRONG)).await));
    heard(format!("{:?}", sessions.sign_in(sign_in(1002, &"canary-too-long".repeat(9))).await));
    program.gateway.set_guid_on_next_reply(1001);
    for _ in 0..3 {
        heard(format!("{:?}", states.set_busy(busy(1001)).await));
    }
    program.gateway.sign_out(1001);
    heard(format!("{:?}", states.set_busy(busy(1001)).await));
    for guid in [CANARY, "279fe21d canary", &CANARY.repeat(9)] {
        let (agent_id, guid) = ("1003".to_owned(), guid.to_owned());
        let request = RegisterSessionRequest { agent_id, guid, ..<_>::default() };
        heard(format!("{request:?} {:?}", sessions.register_session(request.clone()).await));
        heard(format!("{:?}", states.set_busy(busy(1003)).await));
    }
    let show = GetSessionRequest { agent_id: "1001".into(), ..<_>::default() };
    heard(format!("{:?}", sessions.get_session(show).await.map(Response::into_inner)));
    for fault in [Fault::CutMidAnswer, Fault::Html, Fault::StaleSetGuid(CANARY.into())] {
        program.gateway.misbehave(Misbehaviour::once(fault).on(Interface::SayBusy));
        heard(format!("{:?}", states.set_busy(busy(1001)).await));
    }
    heard(format!("{:?}", states.set_busy(busy(1001)).await));
    let sign_out = SignOutRequest { agent_id: "1001".into(), ..<_>::default() };
    heard(format!("{:?}", sessions.sign_out(sign_out).await));

    for page in PAGES {
        heard(program.ask(&format!("GET {page}"), "").await.1);
    }

    let journal = program.gateway.journal();
    let mut guids: Vec<_> = journal
        .iter()
        .filter_map(|entry| entry.header("guid").map(str::to_owned))
        .chain(journal.iter().filter_map(|entry| entry.answer.as_ref()?.set_guid.clone()))
        .chain([CANARY.to_owned()])
        .collect();
    guids.sort();
    guids.dedup();
    assert!(guids.len() >= 4, "{} Guids were in play", guids.len());

    program.signal("-TERM");
    let (code, printed) = program.ended().await;
    assert_eq!(code, Some(0));
    assert!(printed.contains("\"TRACE\""), "nothing was traced");
    let exports = std::iter::from_fn(|| collector.arrived());
    let exported = format!("{:?}", exports.map(|export| export.request).collect::<Vec<_>>());
    assert!(exported.contains("gateway sayBusy") && exported.contains("gateway login"));
    let all = printed + &answers + &exported;
    for guid in &guids {
        // The node suffix may be shown, the rest of the Guid never.
        let (secret, _node) = guid.split_once('.').expect("a node");
        assert!(!all.contains(secret), "a Guid was shown");
    }
    for secret in [PASSWORD, WRONG, "canary-too-long", "canary-token", "279fe21d"] {
        assert!(!all.contains(secret), "{secret} was shown");
    }
}

#[tokio::test]
async fn a_callers_token_is_printed_nowhere_at_trace_level() {
    // The key of RFC 8037, appendix A.2, and the payload and signature of its appendix A.4.
    const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    const CLAIMS: &str = "eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIn0";
    const SIGNATURE: &str =
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let files = TempDir::new().expect("a folder");
    let keys = files.path().join("keys.json");
    fs::write(&keys, KEYS).expect("written");
    let settings = format!(
        "issuers.k8s = {{ issuer = \"https://issuer.example\", audiences = [\"bridge\"], jwks_file = {keys:?} }}\n\
         callers.all = {{ principals = [\"*\"], tenants = [\"*\"], rights = [\"*\"] }}\n"
    );
    let program = start(&settings, &["--log-filter", "trace"]).await;
    let mut states = Clients::of(program.grpc).states;
    let mut answers = String::new();
    // {"alg":"EdDSA","kid":"k"}, and the same with an unknown key.
    for head in
        ["eyJhbGciOiJFZERTQSIsImtpZCI6ImsifQ", "eyJhbGciOiJFZERTQSIsImtpZCI6IngifQ", "canary-head"]
    {
        let mut request = Request::new(busy(1001));
        let token = format!("Bearer {head}.{CLAIMS}.{SIGNATURE}").parse().expect("a header");
        request.metadata_mut().insert("authorization", token);
        let refused = states.set_busy(request).await.expect_err("it is not good");
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
        answers.extend([format!("{refused:?}")]);
    }
    for page in ["/", "/status.json", "/metrics"] {
        answers.push_str(&program.ask(&format!("GET {page}"), "").await.1);
    }
    program.signal("-TERM");
    let (_, printed) = Box::pin(program.ended()).await;
    assert!(printed.contains("CALLER_UNKNOWN"), "{printed}");
    for secret in ["eyJhbGciOiJFZERTQSIsImtpZCI6ImsifQ", CLAIMS, SIGNATURE, "canary-head"] {
        assert!(!printed.contains(secret) && !answers.contains(secret), "{secret}");
    }
}

#[test]
fn what_looks_like_a_secret_is_found_in_any_text() {
    let (token, _) = signed_token("https://issuer.example");
    let (guid, _node) = CANARY.split_once('.').expect("a node");
    let key = key_hex(STORE_KEY);
    for secret in [PASSWORD, guid, &token, &key, "-----BEGIN PRIVATE KEY-----"] {
        for text in [secret.to_owned(), format!("é-.eyJ {secret}.x-")] {
            let searched = catch_unwind(|| hides_secrets("a text", &text));
            searched.expect_err(secret);
        }
    }
    for harmless in
        ["", "-", "….AgentGateway1", "2026-11-29T11:17:42Z", "279fe21d-aaaa-4437", ".eyJ"]
    {
        hides_secrets("a text", harmless);
    }
}

#[test]
fn a_panic_about_what_has_secrets_tells_none() {
    let guid = Guid::parse(CANARY).expect("a Guid");
    let registration = RegisterSessionRequest { guid: CANARY.into(), ..<_>::default() };
    let bytes = key(STORE_KEY);
    let key = EncryptionKey::new(bytes);
    let all = (guid.header().clone(), guid, registration, sign_in(1001, PASSWORD), key);
    let panicked: Result<(), _> = catch_unwind(AssertUnwindSafe(|| panic!("{all:?}")));
    let told = panicked.expect_err("it panics").downcast::<String>().expect("a text");
    assert!(told.contains("AgentGateway1") && told.contains("1001"), "{told}");
    hides_secrets("a panic", &told);
    assert!(!told.contains(&format!("{}, {}", bytes[0], bytes[1])), "{told}");
}

#[tokio::test]
#[should_panic(expected = "the log shows a secret")]
async fn a_program_that_logs_a_secret_fails_whichever_test_it_is_of() {
    let site = Site::new(Options::default()).await;
    let line = format!(r#"echo '{{"message":"{PASSWORD}"}}' >&2; exec "$0" "$@""#);
    let mut shell = command("/bin/sh");
    shell.args(["-c", &line]).arg(bridge().as_std().get_program());
    let _program = Program::start(&site, shell, &setup(""), Output::Read).await;
}

/// A token of this issuer for the audience "bridge", and the key set to verify it with.
fn signed_token(issuer: &str) -> (String, String) {
    let key = Ed25519KeyPair::generate().expect("a key");
    let x = BASE64.encode(key.public_key().as_ref());
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x}]});
    let head = json!({"alg": "EdDSA", "kid": "k"});
    let claims = json!({"iss": issuer, "aud": "bridge", "sub": "ivr", "exp": 4_000_000_000_u64});
    let [head, claims] = [head, claims].map(|json| BASE64.encode(json.to_string()));
    let signed = format!("{head}.{claims}");
    let signature = BASE64.encode(key.sign(signed.as_bytes()));
    (format!("{signed}.{signature}"), keys.to_string())
}

/// A client with this token, of a bridge that has this certificate.
fn caller(
    program: &Program,
    own: &Certificate,
    token: &str,
) -> AgentStateClient<AuthorizedChannel> {
    let mut tls = trusting(&[own]);
    tls.alpn_protocols.clear();
    let channel = client::secure_channel(tls);
    let authorization = Some(format!("Bearer {token}").parse().expect("a header"));
    let origin = format!("https://localhost:{}", program.grpc.port()).parse().expect("an origin");
    AgentStateClient::with_origin(AuthorizedChannel { channel, authorization }, origin)
}

#[tokio::test]
async fn no_secret_of_files_and_no_token_that_is_good_is_shown_at_trace_level() {
    const REDIS: &str = "canary-of-redis";
    const ADMIN: &str = "canary-of-admin";
    const COLLECTOR: &str = "canary-of-collector";
    const KEY: &str = "c0ffeed8a295da885a5be3f06e7022f6a70c0443a1a08f520ad7aa6a0a517eb9";
    let mut collector = Collector::start(Conduct::Takes).await;
    let redis = RedisServer::with(&["--save", "", "--requirepass", REDIS]).await;
    let site = Site::new(Options::default()).await;
    let own = Certificate::of("localhost", &site.path(""));
    let (token, keys) = signed_token("https://issuer.example");
    for (name, content) in [
        ("redis", REDIS),
        ("admin", ADMIN),
        ("canary.key", KEY),
        ("keys.json", &keys),
        ("collector", &format!("authorization: Bearer {COLLECTOR}\n")),
    ] {
        site.write(name, content);
    }
    let mut setup = setup(&format!(
        "listeners.default.tls = {}\nadmin.token_file = \"admin\"\naudit.file = \"audit\"\n\
         issuers.k8s = {{ issuer = \"https://issuer.example\", audiences = [\"bridge\"], \
         jwks_file = \"keys.json\" }}\n\
         callers.all = {{ principals = [\"*\"], tenants = [\"*\"], rights = [\"*\"] }}\n\
         traces = {{ endpoint = \"http://{}\", sample = 1, headers_file = \"collector\" }}\n",
        own.table(),
        collector.addr,
    ));
    let url = redis.url();
    setup.store = format!(
        "urls = \"{url}\"\npassword_file = \"redis\"\nencryption_key_files = \"canary.key\"\n"
    );
    setup.credentials = vec![1001];
    let mut command = bridge();
    command.args(["--log-filter", "trace"]);
    let program = Program::start(&site, command, &setup, Output::Read).await;

    let mut good = caller(&program, &own, &token);
    good.set_busy(busy(1001)).await.expect("accepted");
    let refused = good.set_busy(busy(1001)).await.expect_err("it is busy already");
    let forged = caller(&program, &own, &token[..token.len() - 2]).set_busy(busy(1001)).await;
    let forged = forged.expect_err("its signature is cut");
    assert_eq!(forged.code(), Code::Unauthenticated, "{forged:?}");
    let mut shown = format!("{refused:?}{forged:?}");
    for page in PAGES {
        let request = format!("GET {page}\nAuthorization: Bearer {ADMIN}");
        let (status, body) = program.ask(&request, "").await;
        assert_eq!(status, 200, "{page}");
        shown += &body;
        shown +=
            &program.ask(&format!("GET {page}\nAuthorization: Bearer {ADMIN}-not"), "").await.1;
    }
    program.signal("-TERM");
    let (code, printed) = Box::pin(program.ended()).await;
    assert_eq!(code, Some(0));
    assert!(printed.contains("\"TRACE\"") && printed.contains("CALLER_UNKNOWN"), "{printed}");
    let audited = fs::read_to_string(site.path("audit")).expect("there are calls in it");
    assert!(audited.contains("ivr"), "{audited}");
    let exports: Vec<_> = std::iter::from_fn(|| collector.arrived()).collect();
    assert!(
        exports[0].headers["authorization"].to_str().is_ok_and(|sent| sent.contains(COLLECTOR))
    );
    let exported: Vec<_> = exports.iter().map(|export| &export.request).collect();
    let all = printed + &shown + &audited + &format!("{exported:?}");
    hides_secrets("what the bridge tells", &all);

    let parts = token.split('.').map(str::to_owned);
    let pem = fs::read_to_string(&own.key).expect("readable");
    let lines = pem.lines().filter(|line| !line.starts_with('-')).map(str::to_owned);
    let journal = site.gateway.journal();
    let guids = journal.iter().filter_map(|entry| entry.header("guid")?.split_once('.'));
    let guids = guids.map(|(secret, _node)| secret.to_owned());
    let texts = [REDIS, ADMIN, COLLECTOR, KEY].map(str::to_owned);
    for secret in parts.chain(lines).chain(guids).chain(texts) {
        assert!(!all.contains(&secret), "{secret} was shown");
    }
}
