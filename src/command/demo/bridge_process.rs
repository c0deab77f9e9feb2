//! A bridge as a child process, which can be killed. Its sessions are in a file.

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use super::{super::progress::waiting, ADMIN, Failure, Flag, LISTEN};

/// The process, with what is needed to start it again. Dropping it kills the process.
pub(super) struct BridgeProcess {
    child: Child,
    config: PathBuf,
    grpc: SocketAddr,
    admin: Option<SocketAddr>,
}

const CONFIG: &str = "demo.toml";
const SESSIONS: &str = "demo-sessions.redb";
/// How long the process may take to accept connections; a busy machine needs some time.
const START_WITHIN: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

impl BridgeProcess {
    /// Starts the bridge with these settings, writes its configuration and sessions into `folder`, and
    /// waits until it accepts connections.
    pub(super) async fn start(folder: &Path, settings: &[Flag]) -> Result<Self, Failure> {
        fs::create_dir_all(folder)
            .map_err(|error| format!("--keep {}: {error}", folder.display()))?;
        let [grpc, admin] = [LISTEN, ADMIN].map(|key| {
            let flag = settings.iter().find(|flag| flag.key == key);
            flag.map(|flag| flag.value.as_str()).unwrap_or_default()
        });
        // The ports are chosen here, so that they are the same after each start.
        let grpc = with_fixed_port(grpc)?;
        let admin = if admin == "off" { None } else { Some(with_fixed_port(admin)?) };
        let mut text = String::new();
        for Flag { key, value, .. } in settings {
            let value = match key.as_str() {
                LISTEN => grpc.to_string(),
                ADMIN => admin.map_or("off".to_owned(), |addr| addr.to_string()),
                _ => value.clone(),
            };
            // Writing to a String cannot fail.
            let _written = writeln!(text, "{key} = {value:?}");
        }
        let _written = writeln!(text, "store.file = {SESSIONS:?}");
        let config = folder.join(CONFIG);
        fs::write(&config, text)?;
        let child = spawn(&config)?;
        let mut process = Self { child, config, grpc, admin };
        waiting("the bridge starts", process.accepts()).await?;
        Ok(process)
    }

    pub(super) fn grpc_addr(&self) -> SocketAddr {
        self.grpc
    }

    pub(super) fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) async fn kill_and_start_again(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        self.start_again().await
    }

    pub(super) async fn start_again(&mut self) -> Result<(), Failure> {
        self.child = spawn(&self.config)?;
        waiting("the bridge starts", self.accepts()).await
    }

    /// Waits until the process has ended.
    pub(super) async fn ended(&mut self) {
        while matches!(self.child.try_wait(), Ok(None)) {
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until the bridge accepts connections.
    async fn accepts(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        while TcpStream::connect(self.grpc).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the bridge did not start ({status})").into());
            }
            if start.elapsed() >= START_WITHIN {
                return Err("the bridge does not answer".into());
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }
}

impl Drop for BridgeProcess {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn spawn(config: &Path) -> Result<Child, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    // The user's CCGW__ variables are meant for another bridge, not for the demo's.
    command.env_clear().arg("--config").arg(config);
    // How the log is shown is for both.
    command.envs(std::env::var_os("NO_COLOR").map(|value| ("NO_COLOR", value)));
    // Ctrl-C must reach only the demo, which then ends this process.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    Ok(command.spawn()?)
}

/// The address, with a free port in place of port 0.
fn with_fixed_port(listen: &str) -> Result<SocketAddr, Failure> {
    let addr: SocketAddr =
        listen.parse().map_err(|_| format!("{listen:?} is not an address to listen on"))?;
    if addr.port() != 0 {
        return Ok(addr);
    }
    Ok(TcpListener::bind(addr)?.local_addr()?)
}
