//! The session file, as an operator sees it.

use ccgateway_test_support::{Program, run, within};
use tokio::time::{Duration, sleep};

use crate::support::{bridge, register, start};

const STORE: &str = "store.file = \"sessions.redb\"";

async fn page(program: &Program, path: &str) -> String {
    let (status, body) = program.ask(&format!("GET {path}"), "").await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// Waits until a page says so.
async fn says(program: &Program, path: &str, words: &str) {
    let saying = async {
        while !page(program, path).await.contains(words) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    within(words, saying).await;
}

/// What `/status.json` says of the store.
async fn status(program: &Program) -> serde_json::Value {
    let status: serde_json::Value =
        serde_json::from_str(&page(program, "/status.json").await).expect("JSON");
    status["store"].clone()
}

/// The value of a metric without labels.
async fn metric(program: &Program, name: &str) -> u64 {
    let metrics = page(program, "/metrics").await;
    let line = metrics.lines().find(|line| line.split(' ').next() == Some(name));
    let value = line.and_then(|line| line.split(' ').nth(1)).expect(name);
    value.parse().expect("a number")
}

#[tokio::test]
async fn a_file_that_fails_is_seen_and_costs_no_call() {
    let program = start(STORE, &[]).await;
    register(&program, 1001).await;
    says(&program, "/readyz?verbose", "store: up\n").await;
    let store = status(&program).await;
    assert_eq!((&store["kind"], &store["state"]), (&"file".into(), &"up".into()), "{store}");
    says(&program, "/", "File of sessions").await;
    assert!(metric(&program, "ccgw_store_file_bytes").await > 0);
    assert_eq!(metric(&program, "ccgw_store_failures_total").await, 0);

    let file = program.site.path("sessions.redb");
    std::fs::remove_file(&file).expect("removed");
    std::fs::create_dir(&file).expect("made");
    register(&program, 1002).await;
    says(&program, "/readyz?verbose", "store: down, Is a directory").await;
    let store = status(&program).await;
    assert_eq!(store["state"], "down", "{store}");
    assert!(store["error"].as_str().is_some_and(|e| e.contains("Is a directory")), "{store}");
    assert!(metric(&program, "ccgw_store_failures_total").await > 0);
    assert!(page(&program, "/readyz").await.starts_with("ready\n"), "callers lose nothing");

    std::fs::remove_dir(&file).expect("removed");
    says(&program, "/readyz?verbose", "store: up\n").await;
    program.signal("-TERM");
    let (code, printed) = program.ended().await;
    assert_eq!(code, Some(0));
    let count = |words: &str| printed.matches(words).count();
    assert_eq!(
        count("cannot be written: until it can, sessions are kept in memory only"),
        1,
        "{printed}"
    );
    assert_eq!(count("can be written again"), 1, "{printed}");
    assert_eq!(count("store.file without store.encryption_key_files"), 1, "{printed}");
}

#[tokio::test]
async fn a_second_process_with_the_same_file_does_not_start() {
    let program = start(STORE, &[]).await;
    let config = &program.config;
    let mut second = bridge();
    second.arg("--config").arg(config);
    let (code, printed) = run(second).await;
    assert_eq!(code, Some(1), "{printed}");
    for words in ["store.file: another process has", "sessions.redb open; stop that one first"] {
        assert!(printed.contains(words), "{printed}");
    }
}

#[tokio::test]
async fn check_config_says_what_becomes_of_sessions() {
    for (settings, words) in [
        (STORE, "sessions are kept in"),
        (
            "",
            "after a crash or kill -9 an agent's calls fail with ALREADY_EXISTS for up to two minutes",
        ),
    ] {
        let program = start(settings, &[]).await;
        let mut check = bridge();
        check.arg("check-config").arg("--config").arg(&program.config);
        let (code, printed) = run(check).await;
        assert_eq!(code, Some(0), "{printed}");
        assert!(printed.contains(words), "{printed}");
    }
}
