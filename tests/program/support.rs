//! The program as the tests start it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use ccgateway_sim::Options;
use ccgateway_test_support::{Certificate, Clients, Output, Program, Setup, Site, command};
use tempfile::TempDir;
use tokio::process::Command;

pub(crate) fn bridge() -> Command {
    command(env!("CARGO_BIN_EXE_ccgateway-bridge"))
}

/// The file of the program `ccgateway-sim`. Cargo builds it where that has not been done: it tells tests
/// only the programs of their own package, and not its examples.
pub(crate) fn simulator() -> &'static Path {
    built("ccgateway-sim")
}

/// The file of an example of the bridge.
pub(crate) fn example(name: &str) -> &'static Path {
    built(name)
}

fn built(name: &str) -> &'static Path {
    static FILES: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo.args(["build", "--locked", "--quiet", "--message-format=json", "--workspace"]);
        // With the examples all crates have the features that they have for tests, so that none is compiled
        // once more.
        cargo.args(["--bin=ccgateway-sim", "--examples"]);
        let done = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let messages = done.stdout.split(|byte| *byte == b'\n');
        let messages = messages.filter_map(|line| serde_json::from_slice(line).ok());
        let built = |message: serde_json::Value| {
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, PathBuf::from(message["executable"].as_str()?)))
        };
        messages.filter_map(built).collect()
    });
    files.get(name).unwrap_or_else(|| panic!("cargo has built no {name}"))
}

/// What the doctor printed, with each finding on one line.
pub(crate) fn unwrapped(printed: &str) -> String {
    printed.replace("\n           ", " ")
}

/// Nothing but these lines in front of the tenant's differs from the defaults.
pub(crate) fn setup(settings: &str) -> Setup {
    Setup { settings: settings.into(), drain: String::new(), keep: true, ..Setup::default() }
}

/// Starts the bridge with these lines in front of the tenant's.
pub(crate) async fn start(settings: &str, args: &[&str]) -> Program {
    begin(settings, args, &[], Output::Read).await
}

/// Starts the program with these environment variables.
pub(crate) async fn start_with(settings: &str, variables: &[(&str, &str)]) -> Program {
    begin(settings, &[], variables, Output::Read).await
}

/// The same, but nobody reads what it prints once it serves, until the test ends.
pub(crate) async fn start_unread(settings: &str, args: &[&str]) -> Program {
    begin(settings, args, &[], Output::Unread).await
}

/// Starts the bridge, and closes its log once it serves.
pub(crate) async fn start_unlogged(settings: &str, args: &[&str]) -> Program {
    begin(settings, args, &[], Output::Closed).await
}

async fn begin(
    settings: &str,
    args: &[&str],
    variables: &[(&str, &str)],
    output: Output,
) -> Program {
    let site = Site::new(Options::default()).await;
    let mut command = bridge();
    command.args(args).envs(variables.iter().copied());
    Program::start(&site, command, &setup(settings), output).await
}

/// Starts the bridge with this set-up, at a new site or at this one.
pub(crate) async fn start_at(site: Option<&Site>, setup: &Setup) -> Program {
    let site = match site {
        Some(site) => site.clone(),
        None => Site::new(Options::default()).await,
    };
    Program::start(&site, bridge(), setup, Output::Read).await
}

/// Signs an agent in behind the bridge's back and hands the Guid in, on a connection that ends then.
pub(crate) async fn register(program: &Program, agent: u32) -> String {
    let guid = program.gateway.sign_in(agent);
    Clients::of(program.grpc).register(agent, &guid).await.expect("registered");
    guid
}

/// How many connections were closed or rejected for this cause.
pub(crate) async fn turned_away(program: &Program, cause: &str) -> u64 {
    let (_, metrics) = program.ask("GET /metrics", "").await;
    let start = format!("ccgw_connections_turned_away_total{{cause=\"{cause}\"}} ");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&*start));
    count.expect("exported").parse().expect("a number")
}

/// The setting that lets a bridge have TLS as "localhost", and the file to trust it by.
pub(crate) fn tls(files: &TempDir) -> (String, String) {
    let own = Certificate::of("localhost", files.path());
    (format!("listeners.default.tls = {}", own.table()), own.pem)
}
