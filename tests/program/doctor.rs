//! The doctor explains every cause why a gateway cannot be reached, with a remedy.

use std::time::Duration;

use ccgateway_sim::{
    AuthMode, CertificateKind, Edition, Fault, Misbehaviour, Options, ServerIdentity, Simulator,
};
use ccgateway_test_support::{
    ClosedPort,
    raw_gateway::{RawGateway, Step},
    run,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};

use crate::support::{bridge, unwrapped};

/// Exit code and output for a tenant `acme` with these lines, and a file `ca.pem`.
async fn doctor(tenant: &str, ca: &str) -> (Option<i32>, String) {
    let files = TempDir::new().expect("a folder");
    std::fs::write(files.path().join("ca.pem"), ca).expect("written");
    let file = files.path().join("bridge.toml");
    let text = format!("listeners.default.address = \"127.0.0.1:0\"\n[tenants.acme]\n{tenant}\n");
    std::fs::write(&file, text).expect("written");
    let mut command = bridge();
    command.arg("doctor").arg("--config").arg(file);
    // Where the system's roots are looked for.
    command.env("SSL_CERT_FILE", files.path().join("ca.pem"));
    let (code, printed) = run(command).await;
    (code, unwrapped(&printed))
}

/// Enough for a machine that is busy with other tests.
const LIMITS: &str = "timeouts.connect = \"20s\"";

#[track_caller]
fn check((code, printed): (Option<i32>, String), expected: &[&str]) {
    let (_, problem) = printed.split_once("  problem ").unwrap_or_else(|| panic!("{printed}"));
    for words in expected {
        assert!(problem.contains(words), "{words:?} in: {printed}");
    }
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.ends_with("problems: 1, warnings: 0\n"), "{printed}");
}

async fn gateway(kind: CertificateKind) -> Simulator {
    let tls = Some(ServerIdentity::generate(kind).expect("generated"));
    Simulator::start(Options { tls, ..<_>::default() }).await.expect("started")
}

fn trusting_ca(gateway: &Simulator) -> String {
    format!("{LIMITS}\nbase_urls = \"{}\"\ntls.ca_file = \"ca.pem\"", gateway.base_url())
}

/// A server that answers the first bytes of each connection with these; gives its port.
pub(crate) async fn stand_in(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _hello = stream.read(&mut [0; 4096]).await;
                let _written = stream.write_all(answer).await;
                let _closed = stream.shutdown().await;
                let _rest = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    port
}

/// A server of plain HTTP that takes more time for an answer than a client may take for a handshake.
async fn slow_http() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = Vec::new();
                let _line = stream.read_until(b'\n', &mut line).await;
                if line.starts_with(b"HEAD ") {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    let _written = stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").await;
                }
                let _rest = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn a_good_gateway_has_no_problem() {
    let gateway = gateway(CertificateKind::Signed).await;
    let (code, printed) = doctor(&trusting_ca(&gateway), gateway.certificate_pem()).await;
    assert_eq!(code, Some(0), "{printed}");
    for expected in [
        "ok       settings: good",
        "ok       credentials: none",
        "ok       name: localhost is ",
        "ok       tcp: connected to 127.0.0.1:",
        "ok       tls: TLS 1.3 with TLS13_AES_",
        "until 2049-12-31",
        "trusted by ca_file",
        "ok       answer: from a gateway: retcode ",
        "as it should be without a Guid",
        "ok       clock: ",
        "ok       pace: ",
        "problems: 0, warnings: 0",
    ] {
        assert!(printed.contains(expected), "{expected:?} in: {printed}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_host_is_said_with_its_names() {
    let gateway = gateway(CertificateKind::OtherHost).await;
    let pin = format!("in [tenants.acme]: tls.pinned_sha256 = \"{}\"\n", gateway.leaf_pin());
    let found = doctor(&trusting_ca(&gateway), gateway.certificate_pem()).await;
    check(found, &["not for localhost, but for gateway.invalid", "tenants.acme.base_urls", &pin]);
}

/// A line that a configuration takes as it is printed.
#[tokio::test]
async fn keys_of_a_tenant_whose_id_has_dots_are_quoted() {
    let gateway = gateway(CertificateKind::SelfSigned).await;
    let tenant = format!(
        "base_urls = \"https://localhost:1\"\n[tenants.\"acme.de\"]\n{LIMITS}\nbase_urls = \"{}\"",
        gateway.base_url()
    );
    let other = self::gateway(CertificateKind::Signed).await;
    let (_, printed) = doctor(&tenant, other.certificate_pem()).await;
    let line = format!(
        "set tenants.\"acme.de\".tls.pinned_sha256 once you have compared it with the gateway's own; in \
         [tenants.\"acme.de\"]: tls.pinned_sha256 = \"{}\"\n",
        gateway.leaf_pin()
    );
    assert!(printed.contains(&line), "{line} in: {printed}");
    assert!(!printed.contains("tenants.acme.de"), "{printed}");
}

#[tokio::test]
async fn an_expired_certificate_is_said_with_its_day() {
    let gateway = gateway(CertificateKind::Expired).await;
    let found = doctor(&trusting_ca(&gateway), gateway.certificate_pem()).await;
    check(found, &["has expired 2024-01-01", "have it renewed", &gateway.leaf_pin()]);
}

#[tokio::test]
async fn a_self_signed_certificate_is_to_be_pinned_and_then_good() {
    let gateway = gateway(CertificateKind::SelfSigned).await;
    let other = self::gateway(CertificateKind::Signed).await;
    let pin = format!("tls.pinned_sha256 = \"{}\"", gateway.leaf_pin());
    let url = format!("{LIMITS}\nbase_urls = \"{}\"", gateway.base_url());
    let said = ["self-signed", "once you have compared", &pin];
    check(doctor(&url, other.certificate_pem()).await, &said);
    let in_place = ["self-signed", "in place of tls.ca_file", &pin];
    check(doctor(&trusting_ca(&gateway), other.certificate_pem()).await, &in_place);
    check(doctor(&trusting_ca(&gateway), gateway.certificate_pem()).await, &in_place);

    let (code, printed) = doctor(&format!("{url}\n{pin}"), "").await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("as pinned"), "{printed}");
    let wrong = format!("{url}\ntls.pinned_sha256 = \"{}\"", other.leaf_pin());
    check(doctor(&wrong, "").await, &["not the pinned one", &pin]);
}

#[tokio::test]
async fn an_unknown_authority_is_named() {
    let gateway = gateway(CertificateKind::Signed).await;
    let other = self::gateway(CertificateKind::SelfSigned).await;
    let url = format!("{LIMITS}\nbase_urls = \"{}\"", gateway.base_url());
    let said = ["signed by ccgateway-sim CA, which is not trusted", "tenants.acme.tls.ca_file"];
    check(doctor(&url, other.certificate_pem()).await, &said);

    // An authority that was made anew has its old name.
    let anew = self::gateway(CertificateKind::Signed).await;
    let said = ["not with the key of the trusted authority", "current certificate"];
    check(doctor(&trusting_ca(&gateway), anew.certificate_pem()).await, &said);
}

#[tokio::test]
async fn a_closed_port_and_an_unknown_name_are_told_apart() {
    let closed = ClosedPort::new();
    let addr = closed.addr;
    let url = format!("{LIMITS}\nbase_urls = \"https://{addr}\"");
    let refused = format!("tcp: {addr} refuses connections");
    check(doctor(&url, "").await, &[&refused, "nothing listens there", "tenants.acme.base_urls"]);

    let url = "base_urls = \"https://gateway.invalid\"";
    check(doctor(url, "").await, &["name: gateway.invalid has no address", "name server"]);
}

#[tokio::test]
async fn old_tls_is_recognised_however_it_shows() {
    // A ServerHello of TLS 1.0 with TLS_RSA_WITH_AES_128_CBC_SHA.
    const HELLO: [u8; 47] = {
        let mut hello = [7; 47];
        let head = [22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
        let mut at = 0;
        while at < head.len() {
            hello[at] = head[at];
            at += 1;
        }
        hello[43] = 0;
        hello[44] = 0;
        hello[45] = 0x2f;
        hello[46] = 0;
        hello
    };
    // … and the alert protocol_version.
    const ALERT: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];
    for answer in [HELLO.as_slice(), &ALERT] {
        let url = format!("{LIMITS}\nbase_urls = \"https://localhost:{}\"", stand_in(answer).await);
        let gateway = gateway(CertificateKind::Signed).await;
        let said = ["speaks only TLS 1.0", "TLS-terminating sidecar", "http://127.0.0.1:"];
        check(doctor(&url, gateway.certificate_pem()).await, &said);
    }
}

#[tokio::test]
async fn http_and_https_are_not_confused() {
    let ca = gateway(CertificateKind::Signed).await.certificate_pem().to_owned();
    let plain = Simulator::start(Options { plaintext: true, ..<_>::default() }).await;
    let plain = plain.expect("started");
    let url = plain.base_url().replace("http://", "https://");
    let said = ["speaks plain HTTP, not TLS", "tenants.acme.base_urls"];
    // It waits for the end of what it takes for a request, and so does the doctor.
    check(doctor(&format!("base_urls = \"{url}\""), &ca).await, &said);

    let secure = gateway(CertificateKind::Signed).await;
    let url = secure.base_url().replace("https://", "http://");
    let (code, printed) = doctor(&format!("{LIMITS}\nbase_urls = \"{url}\""), &ca).await;
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("speaks TLS, not plain HTTP; write https:// in"), "{printed}");

    let slow = slow_http().await;
    let url = format!("timeouts.connect = \"100ms\"\nbase_urls = \"https://localhost:{slow}\"");
    check(doctor(&url, &ca).await, &["speaks plain HTTP, not TLS"]);

    let mail = stand_in(b"220 mail.example ESMTP ready\r\n").await;
    let url = format!("{LIMITS}\nbase_urls = \"https://localhost:{mail}\"");
    check(doctor(&url, &ca).await, &["speaks neither TLS nor HTTP", "check host and port"]);
}

#[tokio::test]
async fn answers_that_are_no_gateways_are_explained() {
    let gateway = gateway(CertificateKind::Signed).await;
    let status = |status, header: (&str, &str)| Fault::Status {
        status,
        headers: vec![(header.0.into(), header.1.into())],
        body: b"<html>".to_vec(),
        content_type: "text/html".into(),
    };
    let elsewhere = ("Location", "https://portal.example/login?token=canary");
    for (fault, expected) in [
        (Fault::Html, ["HTTP 200, but not from a gateway: it is a web page", "balancer"]),
        (status(302, elsewhere), ["a redirect to https://portal.example/login;", "base_urls"]),
        (
            status(404, ("X", "")),
            ["HTTP 404: there is nothing", "/agentgateway/resource as a rule"],
        ),
        (status(403, ("X", "")), ["HTTP 403", "list"]),
        (status(502, ("X", "")), ["HTTP 502: a balancer answers", "start the gateway"]),
        (Fault::CutMidAnswer, ["the answer was cut", "ask the gateway's operator"]),
    ] {
        gateway.misbehave(Misbehaviour::always(fault));
        check(doctor(&trusting_ca(&gateway), gateway.certificate_pem()).await, &expected);
        gateway.behave();
    }
}

/// A poll, which other gateways of 2014 are asked for, would take an agent's event.
#[tokio::test]
async fn a_gateway_of_2014_without_guids_is_asked_for_what_it_does_not_have() {
    let tls = Some(ServerIdentity::generate(CertificateKind::Signed).expect("generated"));
    let options = Options { tls, auth_mode: AuthMode::None, ..<_>::default() };
    let gateway = Simulator::start(options.of(Edition::V2014)).await.expect("started");
    let lines = "\nedition = \"2014\"\nauth_mode = \"none\"";
    let tenant = trusting_ca(&gateway) + lines;
    let (code, printed) = doctor(&tenant, gateway.certificate_pem()).await;
    assert_eq!(code, Some(0), "{printed}");
    for expected in
        ["answer: HTTP 404, as from a gateway of edition 2014", "problems: 0, warnings: 1"]
    {
        assert!(printed.contains(expected), "{expected:?} in: {printed}");
    }
    assert!(gateway.journal().iter().all(|entry| !entry.target.contains("/agentevent/")));
}

#[tokio::test]
async fn clocks_and_times_are_compared() {
    let gateway = gateway(CertificateKind::Signed).await;
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    gateway.misbehave(Misbehaviour::always(Fault::Raw {
        body: br#"{"message":"","retcode":"000-003"}"#.to_vec(),
        content_type: "application/json".into(),
        headers: vec![
            header("Date", "Tue, 01 Jan 2030 00:00:00 GMT"),
            header("Keep-Alive", "max=100, timeout=5"),
        ],
    }));
    let tenant = trusting_ca(&gateway) + "\ntimeouts.poll = \"9s\"";
    let (code, printed) = doctor(&tenant, gateway.certificate_pem()).await;
    assert_eq!(code, Some(0), "warnings are no problems: {printed}");
    for expected in [
        "ahead of this machine's; set both by NTP",
        "set tenants.acme.timeouts.poll to 15s",
        "idle connections after 5s; set tenants.acme.timeouts.idle below that",
        "problems: 0, warnings: 3",
    ] {
        assert!(printed.contains(expected), "{expected:?} in: {printed}");
    }
}

#[tokio::test]
async fn a_gateway_that_wants_a_certificate_of_ours_is_recognised() {
    let own = gateway(CertificateKind::Signed).await;
    let client_ca = Some(own.certificate_pem().to_owned());
    let asking = Simulator::start(Options { client_ca, ..<_>::default() }).await.expect("started");
    let said =
        ["asked for a client certificate and got none", "tenants.acme.tls.client_certificate_file"];
    check(doctor(&trusting_ca(&asking), asking.certificate_pem()).await, &said);
}

#[tokio::test]
async fn credentials_are_counted_and_never_shown() {
    let gateway = gateway(CertificateKind::Signed).await;
    let files = TempDir::new().expect("a folder");
    let file = files.path().join("agents.toml");
    let agents =
        "[agents.1001]\npassword = \"canary-one\"\n[agents.1002]\npassword = \"canary-two\"";
    std::fs::write(&file, agents).expect("written");
    let with_file = format!("\ncredentials_file = \"{}\"", file.display());
    let tenant = trusting_ca(&gateway) + &with_file;
    let (_, printed) = doctor(&tenant, gateway.certificate_pem()).await;
    assert!(printed.contains("the file is readable and has 2 agents"), "{printed}");
    assert!(!printed.contains("canary"), "{printed}");

    std::fs::remove_file(&file).expect("removed");
    let (code, printed) = doctor(&tenant, gateway.certificate_pem()).await;
    assert_eq!(code, Some(2), "{printed}");
    assert!(printed.contains("tenants.acme.credentials_file: cannot read"), "{printed}");
}

#[tokio::test]
async fn one_tenant_can_be_chosen() {
    let gateway = gateway(CertificateKind::Signed).await;
    let files = TempDir::new().expect("a folder");
    let file = files.path().join("bridge.toml");
    let text = format!(
        "listeners.default.address = \"127.0.0.1:0\"\n[tenants.good]\nbase_urls = \"{}\"\n\
         tls.pinned_sha256 = \"{}\"\n[tenants.bad]\nbase_urls = \"https://gateway.invalid\"",
        gateway.base_url(),
        gateway.leaf_pin(),
    );
    std::fs::write(&file, text).expect("written");
    for (name, expected, words) in [
        ("good", 0, "tenant good"),
        ("bad", 1, "tenant bad"),
        ("ugly", 2, "no such tenant; there are: bad, good"),
    ] {
        let mut command = bridge();
        command.arg("doctor").arg("--config").arg(&file).args(["--tenant", name]);
        let (code, printed) = run(command).await;
        assert_eq!(code, Some(expected), "{printed}");
        assert!(printed.contains(words), "{printed}");
    }
}

/// As the bridge takes them (`odd_replies::ends`).
#[tokio::test]
async fn an_answer_whose_end_is_not_marked_is_an_answer() {
    const NO_SESSION: &str = r#"{"message":"no session","retcode":"100-006"}"#;
    let chunk = format!("{:x}\r\n{NO_SESSION}\r\n", NO_SESSION.len());
    for gateway in [RawGateway::plain().await, RawGateway::tls().await] {
        for (headers, body, then) in [
            ("", NO_SESSION, Step::End),
            ("", NO_SESSION, Step::Close),
            ("", NO_SESSION, Step::Reset),
            ("", NO_SESSION, Step::Hang),
            ("Content-Length: 99\r\n", NO_SESSION, Step::End),
            ("Content-Length: 99\r\n", NO_SESSION, Step::Close),
            ("Content-Length: 99\r\n", NO_SESSION, Step::Reset),
            ("Transfer-Encoding: chunked\r\n", &chunk, Step::Close),
            ("Transfer-Encoding: chunked\r\n", &chunk, Step::Hang),
        ] {
            let answer = format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}");
            gateway.script([Step::Send(answer.into()), then.clone()]);
            let tenant = format!(
                "{LIMITS}\ntimeouts.request = \"1s\"\nbase_urls = \"{}\"\n\
                 tls.insecure_skip_verify = true",
                gateway.base_url()
            );
            let (code, printed) = doctor(&tenant, "").await;
            let found = "answer: from a gateway: retcode 100-006";
            assert!(printed.contains(found), "{headers} {then:?}: {printed}");
            assert_eq!(code, Some(0), "{headers} {then:?}: {printed}");
        }
    }
}
