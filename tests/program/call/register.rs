//! `register-session`, whose Guid is on no command line and in nothing that is printed.

use tempfile::TempDir;

use super::{call, check, command, piped};

use crate::support::start;

#[tokio::test]
async fn a_guid_is_handed_in_from_a_file_or_a_pipe_and_never_shown() {
    let program = start("", &[]).await;
    let files = TempDir::new().expect("a folder");
    let file = files.path().join("guid").display().to_string();
    let guid = program.gateway.sign_in(1001);
    std::fs::write(&file, format!("{guid}\r\n")).expect("written");
    let from_file = ["--agent", "1001", "--guid-file", &file, "--ttl", "1m"];
    let done = call(&program, "register-session", &from_file).await;
    let words = ["OK: the session is registered", "session.origin     ORIGIN_REGISTERED"];
    check(&done, 0, &words);
    let secret = guid.split('.').next().expect("a part");
    assert!(!done.1.contains(secret), "{}", done.1);
    check(&call(&program, "set-busy", &["--agent", "1001"]).await, 0, &["OK: accepted"]);

    let guid = program.gateway.sign_in(1002);
    let piping = command(&program, "register-session", &["--agent", "1002", "--guid-stdin"]);
    let done = piped(piping, &format!("JSESSIONID={guid}\nnext line\n")).await;
    check(&done, 0, &["OK: the session is registered"]);
    check(&call(&program, "set-busy", &["--agent", "1002"]).await, 0, &["OK: accepted"]);
}

#[tokio::test]
async fn a_guid_that_is_none_is_refused_without_being_shown() {
    let program = start("", &[]).await;
    let register =
        || command(&program, "register-session", &["--agent", "1001", "--guid-stdin", "--json"]);
    for canary in ["canary guid\n", "", "canary\u{1b}[31m\n", &"canary".repeat(100)] {
        let done = piped(register(), canary).await;
        check(&done, 1, &["INVALID_REQUEST", "\"on\":\"guid\"", "not_sent"]);
        assert!(!done.1.contains("canary"), "{}", done.1);
    }
}

#[tokio::test]
async fn without_a_guid_nothing_is_asked() {
    let program = start("", &[]).await;
    let register = async |more: &[&str]| {
        call(&program, "register-session", &[&["--agent", "1001"], more].concat()).await
    };
    check(&register(&[]).await, 2, &["--guid-file <FILE>", "--guid-stdin"]);
    check(&register(&["--guid", "x"]).await, 2, &["unexpected argument '--guid'"]);
    let both = ["--guid-file", "/nowhere/guid", "--guid-stdin"];
    check(&register(&both).await, 2, &["cannot be used with"]);
    let missing = ["--guid-file", "/nowhere/guid"];
    check(&register(&missing).await, 2, &["--guid-file /nowhere/guid: No such file"]);
    assert!(program.gateway.journal().is_empty());
}

#[tokio::test]
async fn a_file_without_an_end_is_not_read_whole() {
    let program = start("", &[]).await;
    for (method, flag) in [("register-session", "--guid-file"), ("sign-in", "--password-file")] {
        let endless = ["--agent", "1001", flag, "/dev/zero"];
        check(&call(&program, method, &endless).await, 1, &["INVALID_REQUEST"]);
    }
}
