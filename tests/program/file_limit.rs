//! The limit of open files.

use ccgateway_sim::Options;
use ccgateway_test_support::{Output, Program, Site, command};

use crate::support::{bridge, setup};

#[tokio::test]
async fn a_limit_of_open_files_below_the_limit_of_connections_is_warned_of() {
    let program = bridge().as_std().get_program().to_owned();
    let mut shell = command("/bin/sh");
    shell.args(["-c", "ulimit -n 1000; exec \"$0\" \"$@\""]).arg(program);
    let site = Site::new(Options::default()).await;
    let settings = "server.connections.max = 1001";
    let program = Program::start(&site, shell, &setup(settings), Output::Read).await;
    program.printed("open files are limited to fewer than server.connections.max").await;
    let is_so = |line: &serde_json::Value| line["files"] == 1000 && line["connections"] == 1001;
    assert_eq!(program.lines(|line| is_so(&line["fields"]) || is_so(line)), 1);
}
