//! What the manual pages say beside the help of each command.

use clap::Command;

use super::{
    super::{PROGRAM, call::EXIT_CODES, settings::CONFIG_VARIABLE},
    name,
};

/// What a word stands for.
type Terms = [(&'static str, &'static str)];

const SERVE: &Terms = &[
    ("0", "stopped, after the calls in progress had been answered or their time was over"),
    ("1", "could not be started, or was stopped by a second signal"),
    ("2", "a mistake in the configuration or on the command line"),
];
const CHECK_CONFIG: &Terms = &[
    ("0", "the configuration is good"),
    ("1", "the result could not be written"),
    ("2", "a mistake in the configuration or on the command line"),
];
const RELOAD: &Terms = &[
    ("0", "done, or nothing has changed"),
    ("1", "no bridge answers, or it could not do it"),
    ("2", "a mistake in the configuration, or on the command line; nothing has changed"),
];
const DOCTOR: &Terms = &[
    ("0", "no problem was found"),
    ("1", "there is a problem, or the findings could not be written"),
    ("2", "a mistake in the configuration or on the command line"),
];
const OTHERS: &Terms = &[
    ("0", "done"),
    ("1", "failed, or the result could not be written"),
    ("2", "a mistake on the command line"),
];

/// Variables that are no options of the command line.
const OF_CONFIGURATION: &Terms = &[
    (CONFIG_VARIABLE, "The file of the configuration, where --config names none."),
    (
        "CCGW__SECTION__KEY",
        "The key SECTION.KEY of the configuration, in place of what the file says: \
         CCGW__LOG__FILTER is log.filter.",
    ),
];
const OF_LOG: &Terms = &[("NO_COLOR", "Unless it is empty, the log has no colours.")];

/// Commands that read the configuration.
const WITH_CONFIGURATION: [&str; 5] = ["", "-serve", "-check-config", "-reload", "-doctor"];
/// Commands that log.
const WITH_LOG: [&str; 3] = ["", "-serve", "-demo"];

/// What stands behind the program's name in that of a page: `-call-set-busy`.
fn ending(name: &str) -> &str {
    name.strip_prefix(PROGRAM).unwrap_or_default()
}

fn owned(terms: &Terms) -> Vec<(String, String)> {
    terms.iter().map(|&(term, meaning)| (term.to_owned(), meaning.to_owned())).collect()
}

/// The exit codes of the command with a page of this name.
pub(super) fn exit_status(name: &str) -> Vec<(String, String)> {
    owned(match ending(name) {
        "" | "-serve" => SERVE,
        "-check-config" => CHECK_CONFIG,
        "-reload" => RELOAD,
        "-doctor" => DOCTOR,
        of_call if of_call.starts_with("-call") => &EXIT_CODES,
        _ => OTHERS,
    })
}

/// The variables that the command reads.
pub(super) fn environment(command: &Command) -> Vec<(String, String)> {
    let ending = ending(name(command));
    let mut found = Vec::new();
    for arg in command.get_arguments() {
        if let (Some(variable), Some(long)) = (arg.get_env(), arg.get_long()) {
            let variable = variable.to_string_lossy().into_owned();
            found.push((variable, format!("The value of --{long}, where that is not given.")));
        }
    }
    if WITH_CONFIGURATION.contains(&ending) {
        found.extend(owned(OF_CONFIGURATION));
    }
    if WITH_LOG.contains(&ending) {
        found.extend(owned(OF_LOG));
    }
    found
}

/// Commands with what they do.
pub(super) fn examples(name: &str) -> Vec<(String, String)> {
    let known: &Terms = match ending(name) {
        "" => &[
            ("Serve callers:", "ccgateway-bridge --config /etc/ccgateway-bridge/bridge.toml"),
            (
                "Ask a bridge what an agent is doing:",
                "ccgateway-bridge call get-state --agent 1001",
            ),
        ],
        "-serve" => &[(
            "Serve callers, and log more than usual:",
            "ccgateway-bridge serve --config bridge.toml --log-filter ccgateway_bridge=debug,info",
        )],
        "-check-config" => &[
            ("Name all mistakes:", "ccgateway-bridge check-config --config bridge.toml"),
            (
                "The same for a program:",
                "ccgateway-bridge check-config --config bridge.toml --json",
            ),
        ],
        "-reload" => &[
            ("See what would change:", "ccgateway-bridge reload --config bridge.toml --dry-run"),
            ("Have it changed:", "ccgateway-bridge reload --config bridge.toml"),
        ],
        "-doctor" => &[(
            "Find out why the gateway of a tenant is not reached:",
            "ccgateway-bridge doctor --config bridge.toml --tenant acme",
        )],
        "-call" => &[
            ("Ask what an agent is doing:", "ccgateway-bridge call get-state --agent 1001"),
            (
                "The same at a bridge with TLS that knows its callers by their certificates:",
                "ccgateway-bridge call get-state --agent 1001 --addr bridge.example:50051 --ca ca.pem --certificate me.pem --key me.key",
            ),
        ],
        "-call-set-busy" => &[(
            "Make an agent busy, and wait for the event that says so:",
            "ccgateway-bridge call set-busy --agent 1001 --reason 200 --confirm-within 5s",
        )],
        "-call-batch-set-busy" => &[(
            "Make two agents busy:",
            "ccgateway-bridge call batch-set-busy --agent 1001 --agent 1002 --reason 200",
        )],
        "-call-set-resting" => &[(
            "Let an agent rest for a quarter of an hour:",
            "ccgateway-bridge call set-resting --agent 1001 --duration 15m",
        )],
        "-call-get-state-change" => &[(
            "Ask what became of a change:",
            "ccgateway-bridge call get-state-change --request-id 2f1e0a4e-6a2b-4f4e-9d0a-2f6a4f8f9a11",
        )],
        "-call-sign-in" => &[(
            "Sign an agent in, with the password in a file:",
            "ccgateway-bridge call sign-in --agent 1001 --password-file password",
        )],
        "-call-register-session" => &[(
            "Give the bridge a Guid:",
            "ccgateway-bridge call register-session --agent 1001 --guid-file guid",
        )],
        "-call-watch-events" => &[(
            "Print the events of an agent as JSON, until Ctrl-C:",
            "ccgateway-bridge call watch-events --agent 1001 --json",
        )],
        "-completions" => {
            &[("Complete in this bash:", "source <(ccgateway-bridge completions bash)")]
        }
        "-man" => {
            &[("Read the page of a command:", "ccgateway-bridge man call set-busy | man -l -")]
        }
        "-demo" => &[
            ("Try the bridge:", "ccgateway-bridge demo"),
            ("See it lose a site of its gateway:", "ccgateway-bridge demo --scenario failover"),
        ],
        "-dev-certs" => &[(
            "Make certificates for a bridge with a name:",
            "ccgateway-bridge dev-certs --host bridge.example",
        )],
        _ => &[],
    };
    if known.is_empty() {
        let line = ending(name).replacen("-call-", " call ", 1);
        let line = format!("{PROGRAM}{line} --agent 1001");
        return vec![("For one agent:".to_owned(), line)];
    }
    owned(known)
}

/// The names of other pages.
pub(super) fn see_also(command: &Command) -> Vec<String> {
    let own = name(command);
    let mut pages = Vec::new();
    if ending(own).starts_with("-call-") {
        pages.push(format!("{PROGRAM}-call"));
    } else if own != PROGRAM {
        pages.push(PROGRAM.to_owned());
    }
    pages.extend(command.get_subcommands().map(|below| name(below).to_owned()));
    pages
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::command::Args;

    #[test]
    fn the_examples_are_commands_of_this_program() {
        let mut program = Args::command().disable_help_subcommand(true);
        program.build();
        let mut left = vec![&program];
        while let Some(command) = left.pop() {
            let examples = examples(name(command));
            assert!(!examples.is_empty(), "{}", name(command));
            for (_, line) in examples {
                // What a shell does around it.
                let line = line.replace("source <(", "").replace(')', "");
                let typed = line.split(" | ").next().unwrap_or_default().split(' ');
                if let Err(mistake) = Args::try_parse_from(typed) {
                    panic!("{line}: {mistake}");
                }
            }
            left.extend(command.get_subcommands());
        }
    }
}
