//! The `call` command: makes one call to a bridge, for people and scripts.

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
    io::{self, Write as _},
    num::NonZeroUsize,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use secrecy::SecretString;
use tokio::time::timeout;

pub(super) use self::ending::{EXIT_CODES, EXIT_UNKNOWN};
use self::{
    attempt::Attempt,
    connect::Clients,
    ending::{Ending, exit_codes},
    failure::Failure,
    methods::Method,
    show::Shown,
};
use super::{
    EXIT_FAILED, EXIT_MISTAKE, block_on, fail,
    output::{say, say_on},
    progress::waiting,
};

#[derive(Debug, clap::Args)]
#[command(after_help = exit_codes())]
pub(super) struct Call {
    #[command(subcommand)]
    method: Method,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, clap::Args)]
struct Options {
    /// The tenant; not needed if the bridge serves only one.
    #[arg(long, global = true, value_name = "NAME", env = "CCGW_CALL_TENANT")]
    #[arg(default_value = "", hide_default_value = true)]
    tenant: String,
    /// The address of the bridge.
    #[arg(long, global = true, value_name = "HOST:PORT", env = "CCGW_CALL_ADDR")]
    #[arg(default_value = "127.0.0.1:50051")]
    addr: String,
    /// Use TLS, and trust the certificates in this PEM file [default: TLS with the system's roots,
    /// but no TLS to an address of this machine].
    #[arg(long, global = true, value_name = "FILE", env = "CCGW_CALL_CA")]
    #[arg(conflicts_with = "insecure_plaintext")]
    ca: Option<PathBuf>,
    /// Use TLS, and take the bridge's certificate only if it is for this name [default: the host of
    /// --addr].
    #[arg(long, global = true, value_name = "NAME", env = "CCGW_CALL_SERVER_NAME")]
    #[arg(conflicts_with = "insecure_plaintext")]
    server_name: Option<String>,
    /// Use TLS, and show this certificate to the bridge: a PEM file, leaf first, or "-" for standard
    /// input.
    #[arg(long, global = true, value_name = "FILE", env = "CCGW_CALL_CERTIFICATE")]
    #[arg(conflicts_with = "insecure_plaintext")]
    certificate: Option<PathBuf>,
    /// The PEM file with the certificate's private key [default: the file of --certificate].
    #[arg(long, global = true, value_name = "FILE", env = "CCGW_CALL_KEY")]
    #[arg(requires = "certificate")]
    key: Option<PathBuf>,
    /// Show the token (JWT) in this file to the bridge; "-" is standard input.
    #[arg(long, global = true, value_name = "FILE", env = "CCGW_CALL_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Use no TLS to other machines either: passwords and tokens can then be read on the network.
    #[arg(long, global = true)]
    insecure_plaintext: bool,
    /// How long to wait for the answer, such as 500ms or 5s [default: 30s plus --confirm-within;
    /// watch-events has no default].
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    deadline: Option<Duration>,
    /// Print JSON with the field names of the proto files, one line for each answer or error.
    #[arg(long, global = true)]
    json: bool,
}

/// A mistake on the command line, or in a file that it names: the error text.
struct Mistake(String);

/// The same as the bridge's own default: enough time to sign the agent in first.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

pub(super) fn run(call: Call) -> ExitCode {
    let secret = match call.method.secret() {
        Ok(secret) => secret,
        Err(Mistake(mistake)) => return fail(EXIT_MISTAKE, mistake),
    };
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
        let changes_nothing = method.changes_nothing();
        let failed = |failure: Failure| {
            options.failed(&if changes_nothing { failure.of_question() } else { failure })
        };
        let what = format!("waiting for {}, at most {} s", options.addr, deadline.as_secs());
        let answer = Box::pin(method.call(clients, &options, secret, &attempt));
        // A bridge answers within the deadline. The timeout is for when no bridge answers.
        Ok(match waiting(&what, timeout(deadline + GRACE, answer)).await {
            Ok(Ok(shown)) => {
                options.say(&shown);
                shown.ending.if_confirmation_wanted(confirmation.is_some())
            }
            Ok(Err(status)) => failed(failure::describe(&status, &attempt, &options.addr)),
            Err(_late) => failed(failure::no_answer(&attempt, &options.addr, deadline)),
        })
    }
}

/// How long after the deadline to wait for an answer that is still on the network.
const GRACE: Duration = Duration::from_secs(1);

impl Options {
    /// Prints an answer. Returns whether stdout takes another one.
    fn say(&self, shown: &Shown) -> bool {
        if self.json { say_on(&shown.fields) } else { say_on(shown) }
    }

    /// Prints why a call failed: JSON goes to stdout, where answers go; text goes to stderr.
    fn failed(&self, failure: &Failure) -> Ending {
        if self.json {
            say(failure.json());
        } else {
            let _unread = writeln!(io::stderr(), "{failure}");
        }
        failure.ending
    }
}

/// The longest time that an option takes. gRPC's timeout header and the clock can hold more.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

fn time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time <= LONGEST => Ok(time),
        Ok(_) => Err("give a time of at most 366 days".to_owned()),
        Err(error) => Err(format!("{error}; give a time such as 5s")),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, Subcommand as _};

    use super::*;
    use crate::rpc;

    /// `SetBusy` as `set-busy`.
    fn kebab(name: &str) -> String {
        let mut kebab = String::new();
        for letter in name.chars() {
            if letter.is_ascii_uppercase() && !kebab.is_empty() {
                kebab.push('-');
            }
            kebab.push(letter.to_ascii_lowercase());
        }
        kebab
    }

    #[test]
    fn every_method_of_the_contract_can_be_called_and_is_in_the_documents() {
        let methods = include_str!("../../docs/calling/methods.md");
        let shell = include_str!("../../docs/calling/shell.md");
        let call = Method::augment_subcommands(Command::new("call"));
        let mut subcommands: Vec<_> = call.get_subcommands().map(Command::get_name).collect();
        for method in rpc::methods() {
            let subcommand = kebab(method.name);
            assert!(methods.contains(&format!("`{}`", method.name)), "{}", method.name);
            assert!(shell.contains(&format!("`{subcommand}`")), "{subcommand}");
            assert!(subcommands.contains(&subcommand.as_str()), "{subcommand}");
            subcommands.retain(|other| *other != subcommand);
        }
        assert_eq!(subcommands, [] as [&str; 0], "of no method");
    }
}
