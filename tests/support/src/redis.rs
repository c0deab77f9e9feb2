//! A Redis or Valkey for one test, which ends with the test.

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use rand::RngExt as _;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
};

/// A Redis or Valkey server for one test.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    child: Child,
    arguments: Vec<String>,
    folder: TempDir,
}

/// The ports to choose from. They are below those that the kernel gives to clients, so that a stopped
/// server finds its port still free when it starts again.
const PORTS: std::ops::Range<u16> = 10_000..30_000;
const ATTEMPTS: usize = 50;

impl RedisServer {
    /// Starts an empty server.
    pub async fn start() -> Self {
        Self::with(&["--save", "", "--appendonly", "no"]).await
    }

    /// Starts a server with these arguments.
    pub async fn with(arguments: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder");
        Self::launched(folder, arguments.iter().map(|&a| a.to_owned()).collect()).await
    }

    async fn launched(folder: TempDir, arguments: Vec<String>) -> Self {
        for _ in 0..ATTEMPTS {
            let port = rand::rng().random_range(PORTS);
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
                continue;
            }
            if let Some(child) = launch(port, &arguments, &folder).await {
                return Self { port, child, arguments, folder };
            }
        }
        panic!("no Redis could be started; is redis-server or valkey-server installed?");
    }

    /// Starts a sentinel with these lines in its configuration.
    pub async fn sentinel(lines: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, lines).expect("written");
        let file = file.display().to_string();
        Self::launched(folder, vec![file, "--sentinel".into()]).await
    }

    /// Starts a server that speaks only TLS, with the certificate and the key in these files.
    pub async fn with_tls(certificate: &str, key: &str) -> Self {
        let tls =
            ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-auth-clients", "no"];
        Self::with(&[&["--save", "", "{tls}"][..], &tls].concat()).await
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL for clients without TLS.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A client for the test itself.
    pub fn client(&self) -> ::redis::Client {
        ::redis::Client::open(self.url()).expect("a client")
    }

    /// A connection for the test itself.
    pub async fn connection(&self) -> ::redis::aio::MultiplexedConnection {
        // The library's own limits are half a second and a second, which a busy machine exceeds.
        let limit = Some(Duration::from_secs(20));
        let config = ::redis::AsyncConnectionConfig::new();
        let config = config.set_connection_timeout(limit).set_response_timeout(limit);
        let connection = self.client();
        let connection = connection.get_multiplexed_async_connection_with_config(&config);
        connection.await.expect("Redis answers")
    }

    /// Makes it stop answering with its connections open, as on a host that hangs.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Ends [`Self::freeze`].
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Kills it; its data is lost.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it was running");
    }

    /// Starts it again after `kill`, empty and on the same port.
    pub async fn restart(&mut self) {
        for _ in 0..ATTEMPTS {
            if let Some(child) = launch(self.port, &self.arguments, &self.folder).await {
                self.child = child;
                return;
            }
        }
        panic!("Redis could not be started again");
    }

    fn signal(&self, signal: &str) {
        crate::signal(self.child.id().expect("it runs"), signal);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // SIGKILL, since a frozen process would not react to SIGTERM.
        let _gone = self.child.start_kill();
    }
}

/// Starts the server and waits until it accepts connections; `None` if it ended at once, such as because
/// its port is in use.
async fn launch(port: u16, arguments: &[String], folder: &TempDir) -> Option<Child> {
    let (own, port) = (folder.path().display().to_string(), port.to_string());
    let tls = arguments.iter().any(|argument| argument == "{tls}");
    let arguments = arguments.iter().filter(|argument| *argument != "{tls}");
    let ports = if tls { vec!["--port", "0", "--tls-port", &port] } else { vec!["--port", &port] };
    let mut child = tokio::process::Command::new(program())
        .args(arguments)
        .args(ports)
        .args(["--bind", "127.0.0.1", "--dir", &own])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let mut lines = BufReader::new(child.stdout.take()?).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.contains("eady to accept connections") || line.contains("Sentinel ID") {
            // Its output must be read, or it would block when the pipe is full.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Some(child);
        }
    }
    None
}

/// The server's program: named by `REDIS_SERVER`, or else found on the PATH, Valkey before Redis.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        |name| std::env::split_paths(&path).map(move |p| p.join(name)).find(|p| p.is_file());
    let named = std::env::var_os("REDIS_SERVER").filter(|name| name != OsStr::new(""));
    named
        .map(PathBuf::from)
        .or_else(|| found("valkey-server"))
        .or_else(|| found("redis-server"))
        .expect("redis-server or valkey-server on the PATH; scripts/test installs one")
}
