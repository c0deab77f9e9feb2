//! Agents who have their events sent: their heartbeats stand for polls.

use std::{sync::Arc, time::Duration};

use ccgateway_sim::{Options, PushForm, Simulator};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::{
    client::{Agent, SIGN_IN, call},
    start, until,
};

/// Signs agent 7 in with these fields besides the usual ones.
async fn sign_in(sim: &Simulator, more: Value) -> Agent<'_> {
    let mut body: Value = serde_json::from_str(SIGN_IN).unwrap();
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let reply = call(sim, "PUT onlineagent/7", "", &body.to_string()).await.unwrap();
    Agent { sim, id: 7, guid: reply.set_guid().unwrap().to_owned() }
}

/// Takes one event that is sent.
async fn taken(receiver: &TcpListener) -> String {
    take(receiver.accept().await.unwrap().0).await
}

/// Reads the request with an event, and answers as the clients do.
async fn take(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    let mut request = String::new();
    loop {
        let mut part = [0; 1024];
        let length = stream.read(&mut part).await.unwrap();
        request.push_str(std::str::from_utf8(&part[..length]).unwrap());
        if length == 0 || request.ends_with('}') {
            break;
        }
    }
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"retcode\":0}";
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    request
}

fn body(request: &str) -> Value {
    serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

async fn listen() -> (TcpListener, u16) {
    let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = receiver.local_addr().unwrap().port();
    (receiver, port)
}

#[tokio::test]
async fn the_older_push_sends_each_event_to_its_url_in_the_form_of_a_poll() {
    let sim = start().await;
    let (receiver, port) = listen().await;
    let url = format!("http://127.0.0.1:{port}/events?x=1");
    let agent = sign_in(&sim, json!({ "pushUrl": url })).await;
    for expected in ["AgentOther_InService", "AgentState_Ready"] {
        let request = taken(&receiver).await;
        assert!(request.starts_with("POST /events?x=1 HTTP/1.1\r\n"), "{request}");
        let body = body(&request);
        assert_eq!(body["retcode"], "0");
        assert_eq!(body["event"]["eventType"], expected);
    }
    assert_eq!(agent.poll().await.retcode(), "000-001");
    let login_time = agent.call("PUT", "heartbeat").await.json()["result"]["loginTime"].take();
    assert!(login_time.is_string(), "{login_time}");

    // What nobody takes is lost, and the next event comes all the same.
    assert_eq!(agent.post("saybusy").await, "0");
    drop(receiver.accept().await.unwrap());
    sim.sign_out(7);
    assert!(taken(&receiver).await.contains("AgentOther_ShutdownService"));
}

#[tokio::test]
async fn the_older_push_goes_over_tls_to_any_certificate_or_only_to_trusted_ones() {
    let own = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    for (push_ca, is_trusted) in
        [(None, true), (Some(own.cert.pem()), true), (Some(other.cert.pem()), false)]
    {
        let options = Options { push_ca, ..Options::default() };
        let sim = Simulator::start(options).await.unwrap();
        let (receiver, port) = listen().await;
        sign_in(&sim, json!({ "pushUrl": format!("https://localhost:{port}") })).await;
        let (stream, _) = receiver.accept().await.unwrap();
        let accepted = acceptor(&own).accept(stream).await;
        assert_eq!(accepted.is_ok(), is_trusted);
        if let Ok(stream) = accepted {
            let request = take(stream).await;
            assert!(request.starts_with("POST / HTTP/1.1\r\n"), "{request}");
            assert_eq!(body(&request)["event"]["eventType"], "AgentOther_InService");
        }
    }
    let no_certificate = Options { push_ca: Some(String::new()), ..Options::default() };
    assert!(Simulator::start(no_certificate).await.is_err());
}

fn acceptor(own: &rcgen::CertifiedKey<rcgen::KeyPair>) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn the_older_push_has_another_form_where_the_event_is_text() {
    let options = Options { push_form: PushForm::EventContent, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let (receiver, port) = listen().await;
    sign_in(&sim, json!({ "pushUrl": format!("http://127.0.0.1:{port}/events") })).await;
    let body = body(&taken(&receiver).await);
    let event: Value = serde_json::from_str(body["eventContent"].as_str().unwrap()).unwrap();
    let expected = json!({"eventType": "AgentOther_InService", "workNo": "7", "content": null});
    assert_eq!(event, expected);
    assert_eq!(body.as_object().unwrap().len(), 1);
}

fn push() -> Value {
    json!({"callBackUri": "http://127.0.0.1/events", "serviceToken": "abc-1"})
}

#[tokio::test]
async fn only_both_fields_exclude_the_poll() {
    for (more, retcode) in [
        (push(), "000-001"),
        (json!({"callBackUri": "http://127.0.0.1/events"}), "0"),
        (json!({"serviceToken": "abc-1", "callBackUri": ""}), "0"),
    ] {
        let sim = start().await;
        assert_eq!(sign_in(&sim, more).await.poll().await.retcode(), retcode);
    }
}

#[tokio::test]
async fn heartbeats_keep_the_agent_signed_in_and_polls_do_not() {
    let idle = Duration::from_secs(1);
    let options = Options { idle_sign_out: Some(idle), ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let agent = sign_in(&sim, push()).await;
    let started = tokio::time::Instant::now();
    while started.elapsed() < idle + idle / 10 {
        for (method, tail) in [("POST", "handshake"), ("PUT", "heartbeat")] {
            let reply = agent.call(method, tail).await;
            assert_eq!(reply.text(), r#"{"message":"success","retcode":"0"}"#);
        }
    }
    let ended = loop {
        match agent.poll().await.retcode().as_str() {
            "000-001" => {}
            retcode => break retcode.to_owned(),
        }
    };
    // The event that tells of the sign-out, which nobody was there to be sent to.
    assert_eq!(ended, "0");
    assert!(!sim.agent(7).unwrap().signed_in);
}

#[tokio::test]
async fn heartbeat_brings_a_new_guid() {
    for (method, tail) in [("POST", "handshake"), ("PUT", "heartbeat")] {
        let sim = start().await;
        let mut agent = sign_in(&sim, push()).await;
        let renewed = sim.renew_guid(7);
        assert_eq!(agent.call("GET", "agentstatus").await.set_guid(), None);
        assert_eq!(agent.call(method, tail).await.set_guid(), renewed.as_deref());
        assert_eq!(agent.call(method, tail).await.set_guid(), None);
        agent.guid = renewed.unwrap();
        assert_eq!(agent.post("saybusy").await, "0");
    }
}

#[tokio::test]
async fn heartbeat_means_nothing_for_an_agent_who_polls() {
    let idle = Duration::from_millis(300);
    let options = Options { idle_sign_out: Some(idle), ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let agent = sign_in(&sim, json!({})).await;
    sim.renew_guid(7);
    assert_eq!(agent.call("POST", "handshake").await.set_guid(), None);
    until(|| !sim.agent(7).unwrap().signed_in).await;
    assert_eq!(agent.post("handshake").await, "100-006");
}

#[tokio::test]
async fn handshake_checks_the_service_token() {
    let sim = start().await;
    let agent = sign_in(&sim, push()).await;
    for (token, retcode) in [
        (String::new(), "0"),
        ("abc-1".into(), "0"),
        ("a".repeat(50), "0"),
        ("a".repeat(51), "100-001"),
        ("<a>".into(), "100-001"),
    ] {
        let headers = format!("{}service_token: {token}\r\n", agent.header());
        let reply = call(&sim, "POST onlineagent/7/handshake", &headers, "").await.unwrap();
        assert_eq!(reply.retcode(), retcode, "{token}");
    }
}
