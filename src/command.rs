//! The command line.

mod call;
mod check_config;
mod completions;
mod config_watch;
mod core_dumps;
#[cfg(feature = "simulator")]
mod demo;
#[cfg(feature = "simulator")]
mod dev_certs;
mod doctor;
mod man;
mod notify;
mod output;
mod progress;
mod reload;
mod serve;
mod settings;
mod signals;
mod text;

use std::{ffi::OsString, io::Write as _, num::NonZeroUsize, process::ExitCode};

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use self::{output::say, settings::Settings};
use crate::version;

/// Lets gRPC callers control call-centre agents on a Huawei CC-Gateway.
///
/// Settings come from the file that --config names, from environment variables such as
/// CCGW__LISTENERS__DEFAULT__ADDRESS, and from the flags of serve. A flag overrides a variable, and a
/// variable overrides the file. docs/ccgateway-bridge.example.toml explains every key.
#[derive(Debug, Parser)]
#[command(version = version::VERSION)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten, next_help_heading = "Options of serve")]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve callers; this is the default command.
    ///
    /// SIGTERM, SIGINT or SIGQUIT stops the bridge after the calls in progress have been answered; a
    /// second one stops it at once. SIGUSR1 makes the log more detailed, SIGUSR2 resets it to the
    /// configured filter. SIGHUP reads the configuration again. Other signals are only logged.
    Serve(Settings),
    /// Check the configuration and name every mistake in it; opens no port.
    CheckConfig(check_config::CheckArgs),
    /// Have the bridge that runs with this configuration read it again, and print what has changed by that,
    /// and what takes a restart. The exit code is 2 if the configuration has a mistake; nothing changes
    /// then.
    Reload(reload::ReloadArgs),
    /// Find out why a gateway cannot be reached, and say what to change: looks up each tenant's
    /// addresses, connects, checks TLS and the certificate, and sends a request that every gateway
    /// refuses. Asks the store of sessions and the collector of traces, too. Changes nothing. The exit
    /// code is 1 when there is a problem.
    Doctor(doctor::DoctorArgs),
    /// Call a bridge, and print what it answered.
    Call(Box<call::Call>),
    /// Print a script that completes this program's commands and flags in a shell.
    Completions {
        /// The shell to write it for.
        shell: completions::Shell,
    },
    /// Print a man page, or write them all.
    Man(man::Pages),
    /// Try the bridge without a gateway: starts a simulated one, signs agents in, sets one busy, and
    /// keeps running for grpcurl. Needs no configuration.
    #[cfg(feature = "simulator")]
    Demo(demo::DemoArgs),
    /// Make certificates and a token for trying out how callers show who they are, and the sections of a
    /// configuration that has a bridge take them. They are for this alone: nobody can make more of them,
    /// and they expire after 30 days, the token after 24 hours.
    #[cfg(feature = "simulator")]
    DevCerts(dev_certs::DevCerts),
}

/// As packages install it.
const PROGRAM: &str = "ccgateway-bridge";
/// The exit code for a mistake in the configuration or on the command line.
const EXIT_MISTAKE: u8 = 2;
/// The exit code when the command could not be started or finished.
const EXIT_FAILED: u8 = 1;

/// Runs the command that the command line names, to its end. `line` begins with the program's name.
pub fn run(line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (code, unwritten) = match Args::try_parse_from(line) {
        Ok(args) => args.run(),
        Err(told) => (tell(&told), EXIT_FAILED),
    };
    output::end(code, unwritten)
}

/// Prints what was asked for, such as help, to stdout, and a mistake to stderr.
fn tell(told: &clap::Error) -> ExitCode {
    let printed = told.print();
    if told.use_stderr() {
        return ExitCode::from(EXIT_MISTAKE);
    }
    output::written(printed);
    ExitCode::SUCCESS
}

impl Args {
    /// The exit code, and the one to end with if it is a success whose result could not be written.
    fn run(self) -> (ExitCode, u8) {
        let Self { command, settings } = self;
        let command = command.unwrap_or_else(|| Command::Serve(Settings::default()));
        // A bridge's own configuration says whether there may be any. The other commands have secrets too.
        if !matches!(command, Command::Serve(_)) {
            let _not_on_this_system = core_dumps::forbid();
        }
        if let Some(flag) = settings.first_flag().filter(|_| !command.takes_settings()) {
            let mistake =
                format!("{flag} in front of a command is for serve and check-config only");
            return (fail(EXIT_MISTAKE, mistake), EXIT_FAILED);
        }
        let code = match command {
            Command::Serve(own) => serve::run(&own.or(settings)),
            Command::CheckConfig(args) => check_config::run(settings, args),
            Command::Reload(args) => reload::run(settings, args),
            Command::Call(call) => return (call::run(*call), call::EXIT_UNKNOWN),
            Command::Doctor(args) => doctor::run(settings, args),
            Command::Completions { shell } => completions::run(shell),
            Command::Man(pages) => man::run(&pages),
            #[cfg(feature = "simulator")]
            Command::Demo(args) => demo::run(&args),
            #[cfg(feature = "simulator")]
            Command::DevCerts(wanted) => dev_certs::run(&wanted),
        };
        (code, EXIT_FAILED)
    }
}

impl Command {
    /// Whether the flags of `serve` are also its own, which may stand in front of its name.
    fn takes_settings(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::CheckConfig(_))
    }
}

/// Runs a command's work on a runtime of its own. Blocking threads that hang are not waited for: a
/// name lookup or a disk write may hang much longer than a user waits for the process to end.
fn block_on<F: Future>(
    worker_threads: Option<NonZeroUsize>,
    work: F,
) -> std::io::Result<F::Output> {
    let runtime = runtime(worker_threads)?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}

/// Makes a runtime with this many threads; `None`: one per core. A single thread gets the cheaper
/// scheduler, which never moves tasks between threads.
fn runtime(worker_threads: Option<NonZeroUsize>) -> std::io::Result<Runtime> {
    let mut builder = match worker_threads.map(NonZeroUsize::get) {
        Some(1) => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if let Some(threads) = worker_threads.filter(|threads| threads.get() > 1) {
        builder.worker_threads(threads.get());
    }
    builder.enable_all().build()
}

/// Prints an error to stderr and returns `code` as the exit code.
fn fail(code: u8, error: impl std::fmt::Display) -> ExitCode {
    let _unread = std::io::stderr().write_all(last_line(error).as_bytes());
    ExitCode::from(code)
}

/// The line in which a command says why it failed.
fn last_line(error: impl std::fmt::Display) -> String {
    format!("ccgateway-bridge: {error}\n")
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, time::Duration};

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_command_ends_although_one_of_its_threads_hangs() {
        let (end, wait) = channel::<()>();
        let (ended, told) = channel();
        std::thread::spawn(move || {
            let _done = block_on(None, async move {
                drop(tokio::task::spawn_blocking(move || wait.recv()));
            });
            ended.send(()).expect("the test waits");
        });
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(()));
        drop(end);
    }
}
