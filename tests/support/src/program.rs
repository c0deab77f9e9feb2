//! A bridge as a process of its own.

use std::{future::pending, net::SocketAddr, num::NonZeroU64, ops::Deref, path::PathBuf};

use ccgateway_sim::Simulator;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    Clients, Setup, Site, admin,
    secrets::{Logged, hides_secrets},
    signal, within,
};

/// A bridge as a process of its own, with a simulated gateway and clients.
#[derive(Debug)]
pub struct Program {
    /// The tenant's gateway.
    pub gateway: Simulator,
    /// The address for callers.
    pub grpc: SocketAddr,
    /// The address of its admin port.
    pub admin: SocketAddr,
    /// The file of its configuration.
    pub config: PathBuf,
    /// The site with its gateway and files.
    pub site: Site,
    clients: Box<Clients>,
    child: Child,
    /// Reads everything that the process prints; ends with the process.
    printed: JoinHandle<String>,
    /// What it has logged so far.
    logged: Logged,
}

/// What the test does with a program's output once the program serves.
#[derive(Clone, Copy, Debug)]
pub enum Output {
    /// It reads all output.
    Read,
    /// It keeps the pipes open without reading them.
    Unread,
    /// It closes the pipe of the log, and does not read the other.
    Closed,
}

type Errors = Lines<BufReader<ChildStderr>>;

impl Program {
    /// Starts one more bridge at this site, and waits until it serves. The bridge's arguments are added to
    /// `command`.
    pub async fn start(site: &Site, mut command: Command, setup: &Setup, output: Output) -> Self {
        let config = site.write_config(setup);
        command.arg("--config").arg(&config).args(["--log-format", "json"]);
        let mut child = command.spawn().expect("the program starts");
        let out = child.stdout.take().expect("piped");
        let mut errors = BufReader::new(child.stderr.take().expect("piped")).lines();
        let (printed, serving) = within("the line that says it serves", served(&mut errors)).await;
        let addr = |field: &str| serving[field].as_str().and_then(|addr| addr.parse().ok());
        let grpc = addr("grpc.addr").expect("an address");
        let admin = addr("admin.addr").expect("an address");
        let (sender, logged) = watch::channel(printed);
        let logged = Logged(logged);
        let printed = tokio::spawn(read(output, sender, errors, out));
        let (gateway, site, clients) =
            (site.gateway.clone(), site.clone(), Clients::of(grpc).into());
        Self { gateway, grpc, admin, config, site, clients, child, printed, logged }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("running")
    }

    /// The most memory that it has used at any time, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        let kib = line.trim().trim_end_matches(" kB").parse::<NonZeroU64>().expect("a number");
        kib.get() * 1024
    }

    /// Forgets what [`Program::peak_memory`] has been. Returns what it is now.
    pub fn forget_peak_memory(&self) -> u64 {
        let file = format!("/proc/{}/clear_refs", self.pid());
        std::fs::write(file, "5").expect("Linux");
        self.peak_memory()
    }

    /// Sends it a signal, such as `-TERM`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for its end. Returns the exit code and everything that it printed.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        let printed = within("the program's end", self.printed).await.expect("read");
        let status = within("the program's end", self.child.wait()).await.expect("waited for");
        hides_secrets("what the program printed", &printed);
        (status.code(), printed)
    }

    /// Stops it by SIGTERM and waits for its end. Returns its address, which is then free.
    pub async fn stop(self) -> SocketAddr {
        let addr = self.grpc;
        self.signal("-TERM");
        let (code, printed) = Box::pin(self.ended()).await;
        assert_eq!(code, Some(0), "{printed}");
        addr
    }

    /// Kills it at once, as a power failure would.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it was running");
    }

    /// Asks the admin port, such as `GET /log`. Returns the status and the body.
    pub async fn ask(&self, request: &str, body: &str) -> (u16, String) {
        let (head, body) = within(request, admin::ask(self.admin, request, body)).await;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no status: {head}")), body)
    }

    /// The sum of the series of `/metrics` whose names begin with `name`.
    pub async fn metric(&self, name: &str) -> f64 {
        let series = admin::scrape(self.admin).await;
        series.iter().filter(|(series, _)| series.starts_with(name)).map(|(_, value)| value).sum()
    }

    /// Waits until the log contains these words. Returns the whole log so far.
    pub async fn printed(&self, words: &str) -> String {
        let mut logged = self.logged.0.clone();
        let seen = within(words, logged.wait_for(|logged| logged.contains(words))).await;
        seen.expect("it goes on").clone()
    }

    /// The lines of its log so far.
    pub fn log(&self) -> Vec<Value> {
        let logged = self.logged.0.borrow();
        logged.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// How many lines of its log are so.
    pub fn lines(&self, is_so: impl Fn(&Value) -> bool) -> usize {
        self.log().into_iter().filter(is_so).count()
    }

    /// How often its log has this message, or one that begins so.
    pub fn said(&self, message: &str) -> usize {
        self.lines(|line| line["message"].as_str().is_some_and(|said| said.starts_with(message)))
    }
}

/// Who has a bridge can call it.
impl Deref for Program {
    type Target = Clients;

    fn deref(&self) -> &Clients {
        &self.clients
    }
}

/// Reads the log up to the line "serving". Returns the text so far, and that line.
async fn served(errors: &mut Errors) -> (String, Value) {
    let mut printed = String::new();
    loop {
        let line = errors.next_line().await.expect("readable");
        let line = line.unwrap_or_else(|| panic!("ended: {printed}"));
        printed.extend([line.as_str(), "\n"]);
        let line: Value = serde_json::from_str(&line).expect("JSON");
        if line["message"] == "serving" {
            return (printed, line);
        }
    }
}

async fn read(
    output: Output,
    logged: watch::Sender<String>,
    errors: Errors,
    out: ChildStdout,
) -> String {
    match output {
        Output::Read => read_on(logged, errors, out).await,
        Output::Unread => {
            let _held = (errors, out);
            pending().await
        }
        Output::Closed => {
            drop(errors);
            let _held = out;
            pending().await
        }
    }
}

async fn read_on(
    logged: watch::Sender<String>,
    mut errors: Errors,
    mut out: ChildStdout,
) -> String {
    while let Some(line) = errors.next_line().await.expect("readable") {
        logged.send_modify(|logged| logged.extend([line.as_str(), "\n"]));
    }
    let mut printed = logged.borrow().clone();
    out.read_to_string(&mut printed).await.expect("readable");
    printed
}
