//! The program `ccgateway-sim` from start to SIGTERM.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

/// A running program, with what it has printed at its start.
struct Program {
    child: Child,
    lines: Vec<String>,
}

impl Program {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ccgateway-sim"))
            .args(["--listen", "127.0.0.1:0"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = Vec::new();
        for line in BufReader::new(child.stdout.as_mut().unwrap()).lines() {
            lines.push(line.unwrap());
            if lines.last().unwrap().starts_with("control") {
                break;
            }
        }
        Self { child, lines }
    }

    /// The value of the first line with this name.
    fn printed(&self, name: &str) -> &str {
        let mut values = self.lines.iter().filter_map(|line| line.trim().strip_prefix(name));
        values.next().unwrap().trim()
    }

    /// Status and body of a request to the control endpoint.
    fn control(&self, line: &str, body: &str) -> (String, String) {
        let addr = self.printed("control").strip_prefix("http://").unwrap();
        http(addr.trim_end_matches('/'), line, body)
    }

    fn control_json(&self, line: &str, body: &str) -> Value {
        let (status, body) = self.control(line, body);
        assert_eq!(status, "200", "{line}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// A request to the first gateway, which has to speak plain HTTP.
    fn gateway(&self, line: &str, body: &str) -> Value {
        let base = self.printed("base").strip_prefix("http://").unwrap();
        let (host, path) = base.split_once('/').unwrap();
        let (method, tail) = line.split_once(' ').unwrap();
        let (_, body) = http(
            &host.replace("localhost", "127.0.0.1"),
            &format!("{method} /{path}/{tail}"),
            body,
        );
        serde_json::from_str(&body).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn http(addr: &str, line: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    let length = body.len();
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
}

#[test]
fn the_version_names_the_commit() {
    let version = Command::new(env!("CARGO_BIN_EXE_ccgateway-sim")).arg("--version").output();
    let version = String::from_utf8(version.unwrap().stdout).unwrap();
    let number = concat!("ccgateway-sim ", env!("CARGO_PKG_VERSION"));
    assert!(version.starts_with(number), "{version}");
    // Sources without a repository have none to name.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if root.join(".git").exists() {
        let mut git = Command::new("git");
        let head = git.args(["rev-parse", "--short=12", "HEAD"]).current_dir(root).output();
        let head = String::from_utf8(head.unwrap().stdout).unwrap();
        assert_eq!(version.trim(), format!("{number} ({})", head.trim()));
    }
}

#[test]
fn prints_its_addresses_and_stops_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let path = path.to_str().unwrap();
    let mut program = Program::start(&["--tenant", "acme", "--tenant", "b", "--write-ca", path]);

    assert_eq!(program.printed("tenant"), "acme");
    assert!(program.printed("base").starts_with("https://localhost:"));
    assert_eq!(program.printed("sha256").len(), 64);
    let pem = std::fs::read_to_string(path).unwrap();
    assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 2);
    let tenants = program.control_json("GET /tenants", "");
    assert_eq!(tenants[1]["tenant"], "b");
    assert_eq!(tenants[0]["leaf_sha256"], program.printed("sha256"));

    let id = program.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
}

#[test]
fn control_endpoint_shows_and_disturbs() {
    let program = Program::start(&["--plain-http", "--code", "busy-again=100-007"]);
    let (_, help) = program.control("GET /", "");
    assert!(help.contains("GET    /tenants"), "{help}");

    let sign_in = r#"{"password":"secret","phonenum":"1"}"#;
    assert_eq!(program.gateway("PUT onlineagent/7", sign_in)["retcode"], "0");
    program.control_json("POST /demo/agents/7/start-call", "");
    let agent = program.control_json("GET /demo/agents/7", "");
    assert_eq!(agent["state"], "talking");
    assert!(agent["guid"].as_str().unwrap().contains('…'));

    let rule = r#"{"agent":7,"interface":"say-busy","times":1,
        "fault":{"kind":"retcode","retcode":"123-456","message":"no"}}"#;
    program.control_json("POST /demo/misbehave", rule);
    let refused = program.gateway("POST onlineagent/7/saybusy", "");
    assert_eq!(refused["retcode"], "123-456");

    let journal = program.control_json("GET /demo/journal", "");
    assert_eq!(journal[0]["body"]["password"], "…");
    assert_eq!(journal[0]["answer"]["retcode"], "0");
    assert_eq!(journal[1]["answer"]["fault"], "retcode");
    program.control_json("DELETE /demo/journal", "");
    assert_eq!(program.control_json("GET /demo/journal", ""), serde_json::json!([]));
}

#[test]
fn control_endpoint_explains_mistakes() {
    let program = Program::start(&[]);
    for (line, body, status, expected) in [
        ("GET /nobody/journal", "", "404", "only demo"),
        ("GET /demo/agents/x", "", "400", "such as 1001"),
        ("GET /demo/agents/7", "", "404", "not been seen"),
        ("POST /demo/agents/7/end-call", "", "409", "not signed in"),
        ("POST /demo/misbehave", r#"{"fault":{"kind":"x"}}"#, "400", "cut-mid-answer"),
        ("PUT /demo/journal", "", "404", "PUT /demo/journal"),
    ] {
        let (got, answer) = program.control(line, body);
        assert_eq!(got, status, "{line}");
        let error: Value = serde_json::from_str(&answer).unwrap();
        let error = error["error"].as_str().unwrap();
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn control_endpoint_takes_sessions_away() {
    let program = Program::start(&["--plain-http"]);
    let of_7 = |act: &str, body: &str| program.control(&format!("POST /demo/agents/7/{act}"), body);
    let first = program.control_json("POST /demo/agents/7/sign-in", "");
    let second = program.control_json("POST /demo/agents/7/take-over", "");
    assert_ne!(first["guid"], second["guid"]);

    let (status, answer) = of_7("switch-over", "{}");
    assert!(status == "400" && answer.contains("5000"), "{answer}");
    let (status, answer) = of_7("switch-over", r#"{"ms":1,"recovery":"x"}"#);
    assert!(status == "400" && answer.contains("guid-mismatch"), "{answer}");
    assert_eq!(of_7("switch-over", r#"{"ms":600000}"#).0, "200");
    let refused = program.gateway("POST onlineagent/7/saybusy", "");
    assert_eq!(refused["retcode"], "000-004");
}

#[test]
fn control_endpoint_acts_as_an_inspector() {
    let program = Program::start(&["--plain-http"]);
    program.control_json("POST /demo/agents/7/sign-in", "");
    for (act, state) in [("force-busy", "busy"), ("force-idle", "idle")] {
        let line = format!("POST /demo/agents/7/{act}");
        program.control_json(&line, "");
        assert_eq!(program.control_json("GET /demo/agents/7", "")["state"], state);
        let (status, answer) = program.control(&line, "");
        assert!(status == "409" && answer.contains(state), "{answer}");
    }
}

#[test]
fn control_endpoint_reports_events() {
    let program = Program::start(&["--plain-http", "--event-gen-time"]);
    program.control_json("POST /demo/agents/7/sign-in", "");
    let line = "POST /demo/agents/7/event";
    program.control_json(line, r#"{"type":"AgentEvent_Hold","content":"22-1"}"#);
    assert_eq!(program.control_json("GET /demo/agents/7", "")["events_waiting"], 3);
    for mistake in ["", r#"{"content":1}"#, r#"{"type":"x","kind":1}"#] {
        let (status, answer) = program.control(line, mistake);
        assert!(status == "400" && answer.contains("AgentEvent_Hold"), "{answer}");
    }
}

#[test]
fn control_endpoint_says_why_no_call_comes() {
    let program = Program::start(&["--plain-http", "--skills-need-reset", "--skill=4"]);
    program.control_json("POST /demo/agents/7/sign-in", "");
    let (status, answer) = program.control("POST /demo/agents/7/start-call", "");
    assert_eq!(status, "409");
    assert!(answer.contains("no skills") && answer.contains("resetskill/true"), "{answer}");
    let agent = program.control_json("GET /demo/agents/7", "");
    assert_eq!(agent["skills"], serde_json::json!([]));
}

#[test]
fn taken_port_is_named_with_advice() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_ccgateway-sim"))
        .args(["--listen", &addr])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains(&addr) && error.contains("--listen"), "{error}");
}
