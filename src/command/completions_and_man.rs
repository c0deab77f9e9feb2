//! Shell completions and man pages, as packages install them beside the program.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Arg, Command, CommandFactory as _, ValueEnum, ValueHint};
use clap_mangen::Man;

use super::{Args, EXIT_FAILED, EXIT_MISTAKE, fail, output};

const PROGRAM: &str = "ccgateway-bridge";

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, clap::Args)]
pub(super) struct Pages {
    /// The command whose page to print, such as "call set-busy" [default: the program itself].
    #[arg(conflicts_with = "dir")]
    command: Vec<String>,
    /// Write the pages of all commands into this folder, which must exist.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

pub(super) fn completions(shell: Shell) -> ExitCode {
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
        let name = arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str());
        let hint = match name {
            Some("FILE") => ValueHint::FilePath,
            Some("FOLDER") => ValueHint::DirPath,
            _ => ValueHint::Other,
        };
        arg.value_hint(hint)
    };
    command.mut_args(hinted_arg).mut_subcommands(hinted)
}

pub(super) fn man(pages: &Pages) -> ExitCode {
    if let Some(folder) = &pages.dir {
        return write_all(folder);
    }
    let mut program = Args::command();
    // The full names of the commands, such as "call set-busy", are known only after this.
    program.build();
    let mut command = &program;
    for name in &pages.command {
        let Some(found) = command.find_subcommand(name) else {
            return fail(
                EXIT_MISTAKE,
                format!("man: no such command: {}", pages.command.join(" ")),
            );
        };
        command = found;
    }
    let mut page = Vec::new();
    match Man::new(command.clone()).render(&mut page) {
        Ok(()) => print(&page),
        Err(error) => fail(EXIT_FAILED, format!("man: {error}")),
    }
}

fn write_all(folder: &Path) -> ExitCode {
    match clap_mangen::generate_to(Args::command(), folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(EXIT_FAILED, format!("man --dir {}: {error}", folder.display())),
    }
}

fn print(bytes: &[u8]) -> ExitCode {
    output::print(bytes);
    ExitCode::SUCCESS
}
