//! How clients watch events.

use std::process::Stdio;

use ccgateway_test_support::within;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::ChildStdout,
};

use super::{Client, cutter::Cutter};
use crate::support::start;

const BUSY: &str = "AgentState_SetNotReady_Success";

#[tokio::test]
async fn clients_miss_no_event_where_their_connection_is_cut() {
    for client in Client::there() {
        misses_no_event(client).await;
    }
}

async fn misses_no_event(client: Client) {
    let program = start("", &[]).await;
    let cutter = Cutter::to(program.grpc).await;
    let mut command = client.command(&cutter.addr, &["--until", BUSY, "1001"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    until(&mut lines, "watching").await;
    program.sign_in(1001).await.expect("signed in");
    until(&mut lines, "event: AgentState_Ready").await;

    cutter.close();
    let mut watching = program.watch(&[1001], None).await;
    program.set_busy(1001).await.expect("accepted");
    watching.event(BUSY).await;
    cutter.open();

    let expected = format!("event: {BUSY}");
    let missed = until(&mut lines, &expected).await;
    assert_eq!(missed, [expected]);
    let status = within("its end", child.wait()).await.expect("waited for");
    assert_eq!(status.code(), Some(0));
}

/// The lines up to this one.
async fn until(lines: &mut Lines<BufReader<ChildStdout>>, last: &str) -> Vec<String> {
    let mut read = Vec::new();
    let reading = async {
        while read.last().is_none_or(|line| line != last) {
            read.push(lines.next_line().await.expect("readable").expect("a line"));
        }
    };
    within(last, reading).await;
    read
}
