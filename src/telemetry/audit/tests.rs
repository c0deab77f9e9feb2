use std::{fs, time::Duration};

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

fn write(audit: &Audit, method: &str) {
    audit.write(&AuditLine {
        time: String::new(),
        caller: None,
        peer: None,
        method,
        tenant: "",
        agent: "",
        arguments: "",
        agents: &[],
        code: "OK",
        reason: None,
        outcome: None,
        retcode: None,
        trace_id: None,
        elapsed_ms: 0.0,
    });
}

/// The methods of the lines, and what is no such line.
fn methods(text: &str) -> Vec<String> {
    let method = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(line["method"].as_str()?.to_owned())
    };
    text.lines().map(|line| method(line).unwrap_or_else(|| line.to_owned())).collect()
}

#[test]
fn only_a_file_that_cannot_be_opened_is_told_to_be_another_one() {
    let error = Audit::to(Path::new("/nowhere/audit")).unwrap_err().to_string();
    assert!(error.starts_with("audit.file: /nowhere/audit: "), "{error}");
    assert!(error.ends_with("give a file in a folder that the bridge may write to"), "{error}");
    let error = AuditError::Thread(io::ErrorKind::WouldBlock.into()).to_string();
    assert!(error.starts_with("the audit log has no thread: "), "{error}");
}

#[tokio::test]
async fn a_line_that_the_process_before_has_torn_is_ended() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit");
    for (before, expected) in [("{\"me", vec!["{\"me", "one"]), ("", vec!["one"])] {
        fs::write(&path, before).unwrap();
        let audit = Audit::to(&path).unwrap();
        write(&audit, "one");
        audit.close().await;
        assert_eq!(methods(&fs::read_to_string(&path).unwrap()), expected);
    }
}

#[tokio::test]
async fn lines_go_to_the_old_file_until_there_can_be_a_new_one() {
    let folder = TempDir::new().unwrap();
    let [place, away] = ["place", "away"].map(|name| folder.path().join(name));
    fs::create_dir(&place).unwrap();
    let audit = Audit::to(&place.join("audit")).unwrap();
    write(&audit, "one");
    fs::rename(&place, &away).unwrap();
    audit.reopen();
    write(&audit, "two");
    let old = || fs::read_to_string(away.join("audit")).unwrap();
    let written = async {
        while old().lines().count() < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), written).await.expect("the second line");
    fs::create_dir(&place).unwrap();
    write(&audit, "three");
    audit.close().await;
    assert_eq!(methods(&old()), ["one", "two"]);
    let new = fs::read_to_string(place.join("audit")).unwrap();
    assert_eq!(methods(&new), ["three"]);
    assert_eq!(audit.lines_lost(), 0);
}
