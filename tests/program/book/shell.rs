//! Commands as a reader types them, none of which outlives the page.

use std::{
    ffi::OsString,
    io::Read as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::NamedTempFile;
use tokio::{process::Command, time::timeout};

/// How long a command of a page may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where commands run, and what they find there.
pub(super) struct Shell {
    pub(super) folder: PathBuf,
    /// All that is in their environment.
    pub(super) variables: Vec<(&'static str, OsString)>,
    /// The sessions of commands that have left processes behind.
    left: Vec<u32>,
}

impl Shell {
    pub(super) fn new(folder: PathBuf, variables: Vec<(&'static str, OsString)>) -> Self {
        Self { folder, variables, left: Vec::new() }
    }

    /// Runs a program in a session of its own; gives its exit code and what it printed, in the order
    /// in which a terminal would show it. What it starts in the background goes on.
    pub(super) async fn run<A: AsRef<std::ffi::OsStr>>(
        &mut self,
        program: &[A],
    ) -> Result<(Option<i32>, String), String> {
        // A pipe would be open as long as anything in the background.
        let printed = NamedTempFile::new().expect("a file");
        let into = || Stdio::from(printed.as_file().try_clone().expect("a handle"));
        let mut command = Command::new("setsid");
        command.args(program).current_dir(&self.folder).env_clear();
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(into()).stderr(into()).kill_on_drop(true);
        let mut child = command.spawn().expect("setsid starts");
        // This process leads no group that setsid would have to leave, so it stays the same process.
        self.left.push(child.id().expect("running"));
        let ended = timeout(PATIENCE, child.wait()).await;
        if ended.is_err() {
            self.end_all();
        }
        self.left.retain(|session| has_processes(*session));
        let mut text = Vec::new();
        let mut printed = printed.reopen().expect("the same file");
        printed.read_to_end(&mut text).expect("readable");
        let text = String::from_utf8_lossy(&text).into_owned();
        match ended {
            Ok(status) => Ok((status.expect("waited for").code(), text)),
            Err(_) => Err(format!("it does not end within {PATIENCE:?}; it printed:\n{text}")),
        }
    }

    /// Writes a file in the folder.
    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).expect("a folder");
        std::fs::write(path, text).expect("written");
    }

    /// Ends what was left. A process may begin another one just before its own end, so this looks again until
    /// there is none. The dead count until somebody has asked how they ended, so it stops after a while.
    fn end_all(&self) {
        for session in &self.left {
            let _last = (0..100).take_while(|_| pkill(*session, "-KILL")).last();
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.end_all();
    }
}

fn has_processes(session: u32) -> bool {
    pkill(session, "-0")
}

/// Sends a signal to all processes of a session; gives whether there is any.
fn pkill(session: u32, signal: &str) -> bool {
    let mut pkill = std::process::Command::new("pkill");
    let status = pkill.args([signal, "--session", &session.to_string()]).status();
    status.expect("pkill runs").success()
}

#[tokio::test]
async fn what_a_command_leaves_in_the_background_ends_with_the_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = std::env::var_os("PATH").expect("a PATH");
    let mut shell = Shell::new(folder.path().to_owned(), vec![("PATH", path)]);
    let (code, printed) = shell
        .run(&[
            "sh",
            "-c",
            "sleep 600 & timeout 600 sleep 600 & echo a; echo b >&2; echo c; exit 3",
        ])
        .await
        .expect("an end");
    assert_eq!((code, printed.as_str()), (Some(3), "a\nb\nc\n"));
    let [session] = shell.left[..] else { panic!("{:?}", shell.left) };
    assert!(has_processes(session));
    drop(shell);
    ccgateway_test_support::within("the end of what was left", async {
        while has_processes(session) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
