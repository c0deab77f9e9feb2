//! gRPC's own library, in a Python process that makes the calls it is told to.

use std::{
    collections::HashMap,
    fmt::Write as _,
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ccgateway_test_support::python;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::oneshot,
    time::timeout,
};
use tonic::{Code, Status};

use crate::caller::Asked;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Long enough for a second attempt, whatever else the machine does.
const DEADLINE: Duration = Duration::from_secs(20);
/// After which the test fails, since the library has its deadlines.
const PATIENCE: Duration = Duration::from_secs(120);
/// As bold as can be: the bridge's own pushback has to keep the library from acting twice.
const SERVICE_CONFIG: &str = r#"{
    "methodConfig": [{
        "name": [{}],
        "retryPolicy": {
            "maxAttempts": 5,
            "initialBackoff": "0.01s",
            "maxBackoff": "0.05s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": [
                "UNAVAILABLE", "UNKNOWN", "INTERNAL", "ABORTED", "RESOURCE_EXHAUSTED",
                "DEADLINE_EXCEEDED"
            ]
        }
    }]
}"#;

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

pub(crate) struct Grpcio {
    input: tokio::sync::Mutex<ChildStdin>,
    waiting: Waiting,
    last: AtomicU64,
    _child: Child,
}

impl Grpcio {
    /// Starts it with this server.
    pub(crate) fn start(addr: SocketAddr) -> Self {
        let mut child = Command::new(python())
            .arg(Path::new(ROOT).join("tests/ledger/grpcio.py"))
            .args([addr.to_string().as_str(), SERVICE_CONFIG])
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let input = tokio::sync::Mutex::new(child.stdin.take().expect("piped"));
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let waiting = Waiting::default();
        let answered = waiting.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let told: Value = serde_json::from_str(&line).expect("JSON");
                let id = told["id"].as_u64().expect("an id");
                let waits = answered.lock().expect("no panic").remove(&id).expect("asked for");
                let _gone = waits.send(told);
            }
        });
        Self { input, waiting, last: AtomicU64::new(0), _child: child }
    }

    /// Makes a call, with all attempts that the library makes of it.
    pub(crate) async fn ask(&self, asked: &Asked) -> Result<Vec<u8>, Status> {
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        let (sender, told) = oneshot::channel();
        self.waiting.lock().expect("no panic").insert(id, sender);
        let line = json!({
            "id": id,
            "path": asked.path,
            "message": hex(&asked.message),
            "traceparent": asked.traceparent(),
            "timeout": DEADLINE.as_secs(),
        });
        let line = format!("{line}\n");
        self.input.lock().await.write_all(line.as_bytes()).await.expect("Python reads");
        let told = timeout(PATIENCE, told).await.expect("an answer").expect("Python goes on");
        let text = |name: &str| told[name].as_str().expect("a text").to_owned();
        let code = told["code"].as_i64().and_then(|code| i32::try_from(code).ok());
        match Code::from_i32(code.expect("a code")) {
            Code::Ok => Ok(unhex(&text("answer"))),
            code => {
                Err(Status::with_details(code, text("message"), unhex(&text("details")).into()))
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
    digits.chunks(2).map(|pair| byte(pair).expect("hexadecimal")).collect()
}
