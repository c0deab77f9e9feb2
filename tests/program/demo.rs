//! The demo, as a new user sees it.

use ccgateway_test_support::{run, signal, within};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{grpcurl::tool, support::bridge};

/// Runs the demo until it invites to try it; gives what it printed.
pub(crate) async fn demo(args: &[&str]) -> (Child, String) {
    let mut child = bridge().arg("demo").args(args).spawn().expect("the demo starts");
    let stdout = child.stdout.as_mut().expect("piped");
    let mut lines = BufReader::with_capacity(1, stdout).lines();
    let mut printed = String::new();
    // The last line of the invitation.
    while !printed.contains("/demo/misbehave") {
        let line = within("the demo's next line", lines.next_line()).await.expect("readable");
        let line = line.unwrap_or_else(|| panic!("the demo ended: {printed}"));
        printed = printed + &line + "\n";
    }
    (child, printed)
}

pub(crate) const FREE: [&str; 8] =
    ["--grpc-port", "0", "--admin-port", "0", "--gateway-port", "0", "--control-port", "0"];

#[tokio::test]
async fn the_demo_shows_a_real_set_busy_and_a_refusal() {
    let (child, printed) = demo(&FREE).await;
    for shown in [
        "state before  idle",
        "POST /agentgateway/resource/onlineagent/1003/saybusy?reason=200",
        "answer        OK, retcode 0",
        "state after   busy, reason 200",
        "reason=AGENT_STATE_REFUSED domain=ccgateway-bridge",
        "tenant_id=demo",
        "outcome=refused",
    ] {
        assert!(printed.contains(shown), "{shown:?} in: {printed}");
    }
    stop(child).await;
}

#[tokio::test]
async fn the_demo_shows_that_a_bridge_which_is_killed_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kept").to_string_lossy().into_owned();
    let (mut child, printed) = demo(&[&FREE[..], &["--keep", &path]].concat()).await;
    for shown in [
        "state after   busy, reason 200",
        "4. The bridge is killed (kill -9) and started again",
        "1002  is busy",
        "was asked for 0 sign-ins",
    ] {
        assert!(printed.contains(shown), "{shown:?} in: {printed}");
    }
    // As the reader is invited to do it.
    let line = printed.lines().find(|line| line.contains("kill -9 ")).expect("the invitation");
    let pid = line.rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("a number");
    signal(pid, "-9");
    let mut lines = BufReader::new(child.stdout.take().expect("given back")).lines();
    let mut said = String::new();
    while !said.contains("goes on with the Guids from before") {
        let line = within("the demo's next line", lines.next_line()).await.expect("readable");
        said += &line.unwrap_or_else(|| panic!("the demo ended: {said}"));
    }
    stop(child).await;
}

#[tokio::test]
async fn the_demos_lines_fit_a_terminal_and_its_commands_work_word_for_word() {
    let (child, printed) = demo(&FREE).await;
    for line in printed.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let (_, invitation) = printed.split_once("Try it;").expect("an invitation");
    let invitation = invitation.replace("\\\n", "");
    let commands: Vec<_> =
        invitation.lines().map(str::trim).filter(|line| line.starts_with(['g', 'c'])).collect();
    assert_eq!(commands.len(), 8, "{invitation}");
    let folder = tool().parent().expect("a folder").to_owned();
    let mut shown = String::new();
    for line in commands {
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).env("PATH", with_path(&folder));
        let (code, printed) = run(command).await;
        assert_eq!(code == Some(0), !line.contains("\"01\""), "{line}: {printed}");
        shown += &printed;
    }
    for part in ["ACTIVITY_STATE_BUSY", "guidVersion", "fieldViolations", "say-busy"] {
        assert!(shown.contains(part), "{part} in: {shown}");
    }
    stop(child).await;
}

#[tokio::test]
async fn the_demo_takes_free_ports_where_its_own_are_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let mut args = FREE;
    args[1] = &port;
    let (child, printed) = demo(&args).await;
    assert!(printed.contains(&format!("port {port} is taken")), "{printed}");
    stop(child).await;
}

/// Runs a scenario to its end; gives what it printed, in lines that fit a terminal.
/// Plays a scenario. Returns what was printed, as one line.
async fn scenario(name: &str) -> String {
    let mut command = bridge();
    command.arg("demo").args(FREE).args(["--scenario", name]);
    let (code, printed) = run(command).await;
    assert_eq!(code, Some(0), "{printed}");
    for line in printed.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    // Where lines are broken depends on how many digits the times have.
    printed.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn the_morning_signs_each_agent_in_once() {
    let printed = scenario("morning").await;
    assert!(printed.contains("60 are signed in"), "{printed}");
    assert!(printed.contains("the gateway got 60 sign-ins for 60 agents"), "{printed}");
}

#[tokio::test]
async fn the_failover_shows_that_the_other_site_takes_the_calls() {
    let printed = scenario("failover").await;
    let (_, after) = printed.split_once("the first site dies").expect("it does");
    let (gone, _) = after.split_once("the first site is back").expect("it comes back");
    let is_of_the_other = |rest: &str| !rest.starts_with("0 ");
    assert!(gone.split("(0 + ").skip(1).any(is_of_the_other), "{printed}");
    assert!(printed.ends_with("the end"), "{printed}");
}

#[tokio::test]
async fn the_fight_ends_and_a_caller_decides() {
    let printed = scenario("fight").await;
    for shown in [
        "other: takes the agent over, by force",
        "bridge: the session is lost",
        "has signed the agent in 4 times",
        "SetBusy: AGENT_TAKEN_OVER; nothing was sent",
        "by SignIn with force; SetBusy: OK",
    ] {
        assert!(printed.contains(shown), "{shown:?} in: {printed}");
    }
}

pub(crate) fn with_path(folder: &std::path::Path) -> std::ffi::OsString {
    let mut path = folder.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

pub(crate) async fn stop(mut child: Child) {
    signal(child.id().expect("running"), "-INT");
    let status = within("the demo's end", child.wait()).await.expect("waited for");
    assert_eq!(status.code(), Some(0));
}
