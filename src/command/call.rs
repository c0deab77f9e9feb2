//! One call to a bridge, for people and scripts.

mod connect;
mod failure;
mod methods;
mod password;
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
use tonic::Request;

use self::{connect::Clients, methods::Method, show::Shown};
use super::{EXIT_FAILED, EXIT_MISTAKE, fail, finish, runtime};

#[derive(Debug, clap::Args)]
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
    /// How long to wait for the answer, such as 500ms or 5s [default: 10s, and what
    /// --confirm-within adds; watch-events has none].
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    deadline: Option<Duration>,
    /// Print JSON with the names of the proto, one line for each answer or error.
    #[arg(long, global = true)]
    json: bool,
}

/// What is wrong with the command line or with what it names.
struct Mistake(String);

const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

pub(super) fn run(call: Call) -> ExitCode {
    let password = match call.method.password() {
        Ok(password) => password,
        Err(Mistake(mistake)) => return fail(EXIT_MISTAKE, mistake),
    };
    // One call needs no more than one thread.
    let done = runtime(NonZeroUsize::new(1))
        .map(|runtime| finish(runtime, async { call.make(password).await }));
    match done {
        Ok(Ok(code)) => code,
        Ok(Err(Mistake(mistake))) => fail(EXIT_MISTAKE, mistake),
        Err(error) => fail(EXIT_FAILED, format!("cannot start the runtime: {error}")),
    }
}

impl Call {
    async fn make(self, password: Option<SecretString>) -> Result<ExitCode, Mistake> {
        let Self { method, options } = self;
        let clients = Clients::connect(&options)?;
        if let Method::WatchEvents(what) = method {
            return Ok(watch::watch(clients, &options, what).await);
        }
        let deadline = options.deadline.unwrap_or(DEFAULT_DEADLINE + method.confirm_within());
        let answer = method.call(clients, &options, (password, deadline));
        // The bridge answers within the deadline; this is for one that is not there.
        let answer = match tokio::time::timeout(deadline + GRACE, answer).await {
            Ok(answer) => answer,
            Err(_late) => return Ok(options.failed(&failure::silent(&options.addr, deadline))),
        };
        Ok(match answer {
            Ok(shown) => {
                options.say(&shown);
                ExitCode::SUCCESS
            }
            Err(status) => options.failed(&failure::describe(&status, &options.addr)),
        })
    }
}

/// What an answer may take on its way.
const GRACE: Duration = Duration::from_secs(1);

impl Options {
    /// A request of this tenant's with its deadline.
    fn request<T>(message: T, deadline: Option<Duration>) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(deadline) = deadline {
            request.set_timeout(deadline);
        }
        request
    }

    /// Prints an answer; whether anybody reads on.
    fn say(&self, shown: &Shown) -> bool {
        if self.json { print(&shown.fields) } else { print(shown) }
    }

    /// Says why a call failed: as JSON where answers go, for people where errors go.
    fn failed(&self, failure: &failure::Failure) -> ExitCode {
        if self.json {
            print(failure.json());
        } else {
            // Whoever closed it does not read it.
            let _unread = writeln!(io::stderr(), "{failure}");
        }
        ExitCode::from(EXIT_FAILED)
    }
}

fn print(line: impl Display) -> bool {
    writeln!(io::stdout(), "{line}").is_ok()
}

fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; give a time such as 5s"))
}
