//! The simulator's program, which knows nothing of the bridge, as a gateway of the bridge's program.

use std::process::Stdio;

use ccgateway_test_support::{run, within};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::support::{bridge, simulator};

#[tokio::test]
async fn the_doctor_finds_nothing_wrong_with_the_simulators_program() {
    let files = TempDir::new().expect("a folder");
    let mut gateway = Command::new(simulator());
    gateway.args(["--tenant", "acme", "--listen", "127.0.0.1:0", "--write-ca", "ca.pem"]);
    gateway.current_dir(files.path()).kill_on_drop(true).stdout(Stdio::piped());
    let mut gateway = gateway.spawn().expect("the simulator starts");
    let mut lines = BufReader::new(gateway.stdout.take().expect("piped")).lines();
    let base = loop {
        let line = within("the gateway's address", lines.next_line()).await.expect("readable");
        let line = line.expect("the simulator goes on");
        if let Some(base) = line.trim().strip_prefix("base ") {
            break base.trim().to_owned();
        }
    };
    let config = format!("[tenants.acme]\nbase_urls = \"{base}\"\ntls.ca_file = \"ca.pem\"\n");
    std::fs::write(files.path().join("bridge.toml"), config).expect("written");
    let mut doctor = bridge();
    doctor.args(["doctor", "--config", "bridge.toml"]).current_dir(files.path());
    let (code, printed) = run(doctor).await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains(&base), "{printed}");
}
