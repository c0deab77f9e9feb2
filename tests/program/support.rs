use std::{
    net::SocketAddr,
    num::NonZeroU64,
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
    time::Duration,
};

use ccgateway_bridge::{
    client::{self, Channel},
    rpc::proto::{
        RegisterSessionRequest, agent_events_client::AgentEventsClient,
        agent_session_client::AgentSessionClient, agent_state_client::AgentStateClient,
    },
};
use ccgateway_sim::{Options, Simulator};
use http::Uri;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Command},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

pub(crate) const PASSWORD: &str = "canary-password";
const PATIENCE: Duration = Duration::from_secs(30);

type Errors = Lines<BufReader<ChildStderr>>;

/// A bridge in a process of its own, with a simulated gateway behind it.
pub(crate) struct Program {
    pub(crate) gateway: Simulator,
    pub(crate) grpc: SocketAddr,
    pub(crate) admin: SocketAddr,
    child: Child,
    /// Reads to the end what is printed.
    printed: JoinHandle<String>,
    /// What it has logged so far.
    logged: watch::Receiver<String>,
    pub(crate) files: TempDir,
}

pub(crate) fn bridge() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ccgateway-bridge"));
    command.env_clear().kill_on_drop(true).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The file of the program `ccgateway-sim`. Cargo builds it where that has not been done: it tells tests
/// only the programs of their own package.
pub(crate) fn simulator() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo.args(["build", "--locked", "--quiet", "--message-format=json", "--workspace"]);
        // There are no examples. But with them all crates have the features that they have for
        // tests, so that none is compiled once more.
        cargo.args(["--bin=ccgateway-sim", "--examples"]);
        let done = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let messages = done.stdout.split(|byte| *byte == b'\n');
        let messages = messages.filter_map(|line| serde_json::from_slice(line).ok());
        let mut files = messages.filter_map(|message: serde_json::Value| {
            message["executable"].as_str().map(PathBuf::from)
        });
        files.next().expect("cargo says where the program is")
    })
}

pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let waited = timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

impl Program {
    /// Starts it with these lines in front of the tenant's.
    pub(crate) async fn start(settings: &str, args: &[&str]) -> Self {
        Self::begin(settings, args, &[], read_on).await
    }

    /// The same with these variables.
    pub(crate) async fn start_with(settings: &str, variables: &[(&str, &str)]) -> Self {
        Self::begin(settings, &[], variables, read_on).await
    }

    /// The same, but nobody reads what it prints once it serves, until the test ends.
    pub(crate) async fn start_unread(settings: &str, args: &[&str]) -> Self {
        let unread = |logged: watch::Sender<String>, errors, output| async move {
            let _held = (errors, output);
            std::future::pending::<()>().await;
            logged.borrow().clone()
        };
        Self::begin(settings, args, &[], unread).await
    }

    /// Starts the bridge, and closes its log once it serves.
    pub(crate) async fn start_unlogged(settings: &str, args: &[&str]) -> Self {
        let closed = |logged: watch::Sender<String>, errors, output| async move {
            drop(errors);
            let _held = output;
            std::future::pending::<()>().await;
            logged.borrow().clone()
        };
        Self::begin(settings, args, &[], closed).await
    }

    async fn begin<R>(
        settings: &str,
        args: &[&str],
        variables: &[(&str, &str)],
        read: impl FnOnce(watch::Sender<String>, Errors, ChildStdout) -> R,
    ) -> Self
    where
        R: Future<Output = String> + Send + 'static,
    {
        let options = Options { default_password: Some(PASSWORD.into()), ..<_>::default() };
        let gateway = Simulator::start(options).await.expect("the gateway starts");
        let files = TempDir::new().expect("a folder");
        let file = write_config(&files, &gateway, settings);
        let mut child = bridge()
            .arg("--config")
            .arg(file)
            .args(["--log-format", "json"])
            .args(args)
            .envs(variables.iter().copied())
            .spawn()
            .expect("the program starts");
        let output = child.stdout.take().expect("piped");
        let mut errors = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut printed = String::new();
        let serving = loop {
            let line = within("the line that says it serves", errors.next_line()).await;
            let line = line.expect("readable").unwrap_or_else(|| panic!("ended: {printed}"));
            printed.push_str(&line);
            printed.push('\n');
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            if line["message"] == "serving" {
                break line;
            }
        };
        let addr = |field: &str| serving[field].as_str().and_then(|addr| addr.parse().ok());
        let grpc = addr("grpc.addr").expect("an address");
        let admin = addr("admin.addr").expect("an address");
        let (sender, logged) = watch::channel(printed);
        let printed = tokio::spawn(read(sender, errors, output));
        Self { gateway, grpc, admin, child, printed, logged, files }
    }

    /// The most memory that it has had at once, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        let kib = line.trim().trim_end_matches(" kB").parse::<NonZeroU64>().expect("a number");
        kib.get() * 1024
    }

    pub(crate) fn origin(&self) -> Uri {
        format!("http://{}", self.grpc).parse().expect("an origin")
    }

    pub(crate) fn states(&self) -> AgentStateClient<Channel> {
        client::agent_state(client::channel(), self.origin())
    }

    pub(crate) fn sessions(&self) -> AgentSessionClient<Channel> {
        client::agent_session(client::channel(), self.origin())
    }

    pub(crate) fn events(&self) -> AgentEventsClient<Channel> {
        client::agent_events(client::channel(), self.origin())
    }

    /// Signs an agent in behind the bridge's back and hands the Guid in.
    pub(crate) async fn register(&self, agent: u32) -> String {
        let guid = self.gateway.sign_in(agent);
        let agent_id = agent.to_string();
        let request = RegisterSessionRequest { agent_id, guid: guid.clone(), ..<_>::default() };
        self.sessions().register_session(request).await.expect("registered");
        guid
    }

    /// Asks the admin port, such as `GET /log`; gives the status and the body.
    pub(crate) async fn ask(&self, request: &str, body: &str) -> (u16, String) {
        let (head, body) = within(request, ask(self.admin, request, body)).await;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no status: {head}")), body)
    }

    /// Waits until these words have been logged; gives all that has been.
    pub(crate) async fn printed(&self, words: &str) -> String {
        let mut logged = self.logged.clone();
        let seen = within(words, logged.wait_for(|logged| logged.contains(words))).await;
        seen.expect("it goes on").clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("running")
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let status = std::process::Command::new("kill").args([signal, &pid]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits for its end; gives the exit code and all that was printed.
    pub(crate) async fn ended(mut self) -> (Option<i32>, String) {
        let printed = within("the program's end", self.printed).await.expect("read");
        let status = within("the program's end", self.child.wait()).await.expect("waited for");
        (status.code(), printed)
    }
}

async fn read_on(
    logged: watch::Sender<String>,
    mut errors: Errors,
    mut output: ChildStdout,
) -> String {
    while let Some(line) = errors.next_line().await.expect("readable") {
        logged.send_modify(|logged| logged.extend([line.as_str(), "\n"]));
    }
    let mut printed = logged.borrow().clone();
    output.read_to_string(&mut printed).await.expect("readable");
    printed
}

/// One request by plain HTTP; gives the head of the answer and its body.
async fn ask(addr: SocketAddr, request: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(addr).await.expect("connected");
    let length = body.len();
    // More of the head may follow the version, and ends with the beginning of a line.
    let line =
        if request.contains("HTTP/1.1") { request } else { &format!("{request} HTTP/1.1\r\nX:") };
    let text = format!(
        "{line} 1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

pub(crate) fn write_config(files: &TempDir, gateway: &Simulator, settings: &str) -> PathBuf {
    let ca = files.path().join("ca.pem");
    std::fs::write(&ca, gateway.certificate_pem()).expect("written");
    let text = format!(
        "listeners.default.address = \"127.0.0.1:0\"\nadmin.address = \"127.0.0.1:0\"\n{settings}\n\
         [tenants.acme]\nbase_urls = \"{}\"\ntls.ca_file = \"ca.pem\"\n",
        gateway.base_url(),
    );
    let file = files.path().join("bridge.toml");
    std::fs::write(&file, text).expect("written");
    file
}

/// The setting that lets a bridge have TLS as "localhost", and the file to trust it by.
pub(crate) fn tls(files: &TempDir) -> (String, String) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("generated");
    let path = |name: &str| files.path().join(name).display().to_string();
    let (pem, key) = (path("tls.pem"), path("tls.key"));
    std::fs::write(&pem, own.cert.pem()).expect("written");
    std::fs::write(&key, own.signing_key.serialize_pem()).expect("written");
    (
        format!("listeners.default.tls = {{ certificate_file = \"{pem}\", key_file = \"{key}\" }}"),
        pem,
    )
}

/// What a command that ends by itself printed, and its exit code.
pub(crate) async fn run(mut command: Command) -> (Option<i32>, String) {
    let done = within("the command's end", command.output()).await.expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), text(&done.stdout) + &text(&done.stderr))
}
