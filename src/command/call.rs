//! One call to a bridge, for people and scripts.

mod arguments;
mod attempt;
mod batch;
mod connect;
mod ending;
mod failure;
mod methods;
mod register;
mod secret;
mod show;
mod watch;

use std::{
    fmt::Display,
    io::{self, Write as _},
    num::NonZeroUsize,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use secrecy::SecretString;

use self::{
    attempt::Attempt,
    connect::Clients,
    ending::{EXIT_CODES, Ending},
    methods::Method,
    show::Shown,
};
use super::{EXIT_FAILED, EXIT_MISTAKE, block_on, fail};

#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Call {
    #[command(subcommand)]
    method: Method,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, clap::Args)]
struct Options {
    /// The tenant; may be left out where the bridge serves one only.
    #[arg(long, global = true, value_name = "NAME", default_value = "", hide_default_value = true)]
    tenant: String,
    /// Where the bridge listens.
    #[arg(long, global = true, value_name = "HOST:PORT", default_value = "127.0.0.1:50051")]
    addr: String,
    /// Use TLS, and trust the certificates in this PEM file [default: TLS and the system's roots,
    /// but no TLS on this machine].
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "insecure_plaintext")]
    ca: Option<PathBuf>,
    /// Use no TLS to another machine either: passwords can be read on the way.
    #[arg(long, global = true)]
    insecure_plaintext: bool,
    /// How long to wait for the answer, such as 500ms or 5s [default: 30s, and what
    /// --confirm-within adds; watch-events has none].
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    deadline: Option<Duration>,
    /// Print JSON with the names of the proto, one line for each answer or error.
    #[arg(long, global = true)]
    json: bool,
}

/// What is wrong with the command line or with what it names.
struct Mistake(String);

/// As a bridge waits by default: long enough for an agent to be signed in first.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

pub(super) fn run(call: Call) -> ExitCode {
    let secret = match call.method.secret() {
        Ok(secret) => secret,
        Err(Mistake(mistake)) => return fail(EXIT_MISTAKE, mistake),
    };
    // One call needs no more than one thread.
    let done = block_on(NonZeroUsize::new(1), call.make(secret));
    match done {
        Ok(Ok(ending)) => ending.into(),
        Ok(Err(Mistake(mistake))) => fail(EXIT_MISTAKE, mistake),
        Err(error) => fail(EXIT_FAILED, format!("cannot start the runtime: {error}")),
    }
}

impl Call {
    async fn make(self, secret: Option<SecretString>) -> Result<Ending, Mistake> {
        let Self { method, options } = self;
        let clients = Clients::connect(&options)?;
        if let Method::WatchEvents(what) = method {
            return Ok(watch::watch(clients, &options, what).await);
        }
        let confirmation = method.confirm_within();
        let deadline =
            options.deadline.unwrap_or(DEFAULT_DEADLINE + confirmation.unwrap_or_default());
        let attempt = Attempt::new(Some(deadline));
        let answer = method.call(clients, &options, secret, &attempt);
        // The bridge answers within the deadline; this is for one that is not there.
        Ok(match tokio::time::timeout(deadline + GRACE, answer).await {
            Ok(Ok(shown)) => {
                options.say(&shown);
                shown.ending.where_confirmation(confirmation.is_some())
            }
            Ok(Err(status)) => options.failed(&failure::describe(&status, &attempt, &options.addr)),
            Err(_late) => options.failed(&failure::silent(&attempt, &options.addr, deadline)),
        })
    }
}

/// What an answer may take on its way.
const GRACE: Duration = Duration::from_secs(1);

impl Options {
    /// Prints an answer; whether anybody reads on.
    fn say(&self, shown: &Shown) -> bool {
        if self.json { print(&shown.fields) } else { print(shown) }
    }

    /// Says why a call failed: as JSON where answers go, for people where errors go.
    fn failed(&self, failure: &failure::Failure) -> Ending {
        if self.json {
            print(failure.json());
        } else {
            // Whoever closed it does not read it.
            let _unread = writeln!(io::stderr(), "{failure}");
        }
        failure.ending
    }
}

fn print(line: impl Display) -> bool {
    writeln!(io::stdout(), "{line}").is_ok()
}

/// More than anybody waits, and less than what gRPC's header and the clock can take.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

fn time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time <= LONGEST => Ok(time),
        Ok(_) => Err("give a time of at most 366 days".to_owned()),
        Err(error) => Err(format!("{error}; give a time such as 5s")),
    }
}
