//! The `completions` command: scripts that complete commands in a shell, as packages install them beside the
//! program.

use std::process::ExitCode;

use clap::{Arg, Command, CommandFactory as _, ValueEnum, ValueHint, builder::Str};

use super::{Args, EXIT_FAILED, PROGRAM, fail, output};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(shell: Shell) -> ExitCode {
    let generator = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(generator, &mut hinted(Args::command()), PROGRAM, &mut script);
    match (shell, String::from_utf8(script)) {
        // clap-rs/clap#6421: the script spells the hyphen in the program's name in two ways, so it
        // completes nothing after the first command.
        (Shell::Bash, Ok(script)) => {
            print(script.replace("ccgateway__subcmd__bridge", "ccgateway__bridge").as_bytes())
        }
        (_, Ok(script)) => print(script.as_bytes()),
        (_, Err(error)) => fail(EXIT_FAILED, format!("completions: {error}")),
    }
}

/// The same command, which tells a shell what its values are, and those of its subcommands: by what the help calls them.
/// Without that a shell offers files for everything.
fn hinted(command: Command) -> Command {
    let hinted_arg = |arg: Arg| {
        if !arg.get_action().takes_values() || !arg.get_possible_values().is_empty() {
            return arg;
        }
        let hint = match arg.get_value_names().unwrap_or_default().first().map(Str::as_str) {
            Some("FILE") => ValueHint::FilePath,
            Some("FOLDER") => ValueHint::DirPath,
            _ => ValueHint::Other,
        };
        arg.value_hint(hint)
    };
    command.mut_args(hinted_arg).mut_subcommands(hinted)
}

fn print(bytes: &[u8]) -> ExitCode {
    output::print(bytes);
    ExitCode::SUCCESS
}
