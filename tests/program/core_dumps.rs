//! Core dumps, and the memory that they are copies of.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use ccgateway_sim::Options;
use ccgateway_test_support::{Output, Program, Site};

use crate::support::{bridge, setup};

/// A user whom every system knows. Root may read every process, so the bridge must not run as root here.
const NOBODY: u32 = 65534;

/// Starts a bridge that is not root's. Returns it, and who runs it.
async fn start(settings: &str) -> (Program, u32) {
    let site = Site::new(Options::default()).await;
    let readable = Permissions::from_mode(0o755);
    fs::set_permissions(site.path(""), readable).expect("its folder is our own");
    let own = fs::metadata("/proc/self").expect("Linux").uid();
    let (mut command, user) = (bridge(), if own == 0 { NOBODY } else { own });
    if own == 0 {
        command.uid(user);
    }
    (Program::start(&site, command, &setup(settings), Output::Read).await, user)
}

/// Who may read the environment of a process, and with it the memory: its user, or root alone if it must not
/// be dumped.
fn readers(program: &Program) -> u32 {
    let environment = fs::metadata(format!("/proc/{}/environ", program.pid()));
    environment.expect("it runs").uid()
}

#[tokio::test]
async fn a_bridge_has_no_core_dumps_and_still_knows_of_itself() {
    let (program, _) = start("").await;
    assert_eq!(readers(&program), 0);
    assert!(program.metric("process_open_fds").await > 3.0);
    assert!(program.metric("process_resident_memory_bytes").await > 1e6);
}

#[tokio::test]
async fn core_dumps_can_be_switched_on_and_are_then_warned_of() {
    let (program, user) = start("server.core_dumps = true").await;
    assert_eq!(readers(&program), user);
    program.printed("server.core_dumps is true").await;
}
