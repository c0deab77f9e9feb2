//! The `man` command: manual pages, as packages install them beside the program.

mod sections;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Command, CommandFactory as _};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::{Args, EXIT_FAILED, EXIT_MISTAKE, PROGRAM, fail, output};
use crate::version;

#[derive(Debug, clap::Args)]
pub(super) struct Pages {
    /// The command whose page to print, such as "call set-busy" [default: the program itself].
    #[arg(conflicts_with = "dir")]
    command: Vec<String>,
    /// Write the pages of all commands into this folder, which must exist.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

pub(super) fn run(pages: &Pages) -> ExitCode {
    let mut program = Args::command().disable_help_subcommand(true);
    // The full names of the commands, such as "call set-busy", are known only after this.
    program.build();
    if let Some(folder) = &pages.dir {
        return write_all(&program, folder);
    }
    let mut command = &program;
    for name in &pages.command {
        let Some(found) = command.find_subcommand(name) else {
            let mistake = format!("man: no such command: {}", pages.command.join(" "));
            return fail(EXIT_MISTAKE, mistake);
        };
        command = found;
    }
    match page(command) {
        Ok(page) => {
            output::print(&page);
            ExitCode::SUCCESS
        }
        Err(error) => fail(EXIT_FAILED, format!("man: {error}")),
    }
}

fn write_all(program: &Command, folder: &Path) -> ExitCode {
    let mut left = vec![program];
    while let Some(command) = left.pop() {
        let file = folder.join(format!("{}.1", name(command)));
        if let Err(error) = page(command).and_then(|page| fs::write(&file, page)) {
            return fail(EXIT_FAILED, format!("man --dir {}: {error}", folder.display()));
        }
        left.extend(command.get_subcommands());
    }
    ExitCode::SUCCESS
}

/// The name of the command's page, such as `ccgateway-bridge-call`.
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// The page of a command that has been built.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    // An argument that is empty would not be there at all.
    let day = if version::DAY.is_empty() { " " } else { version::DAY };
    // The version is in the title, and the text after the help has sections of its own here.
    let plain = command.clone().version(None::<&'static str>).after_help(None::<&'static str>);
    Man::new(plain)
        .date(day)
        .source(format!("{PROGRAM} {}", version::NUMBER))
        .manual("CC-Gateway bridge")
        .render(&mut page)?;
    let mut roff = Roff::default();
    terms(&mut roff, "EXIT STATUS", &sections::exit_status(name(command)));
    terms(&mut roff, "ENVIRONMENT", &sections::environment(command));
    roff.control("SH", ["EXAMPLES"]);
    for (what, line) in sections::examples(name(command)) {
        roff.control("PP", []).text([roman(what)]);
        roff.control("RS", []).control("nf", []);
        roff.text([roman(line)]);
        roff.control("fi", []).control("RE", []);
    }
    roff.control("SH", ["SEE ALSO"]);
    let pages = sections::see_also(command);
    for (number, page) in pages.iter().enumerate() {
        let end = if number + 1 == pages.len() { "(1)" } else { "(1)," };
        roff.text([bold(page), roman(end)]);
    }
    roff.to_writer(&mut page)?;
    Ok(page)
}

/// A section of words, each with what it means; nothing where there are none.
fn terms(roff: &mut Roff, title: &str, terms: &[(String, String)]) {
    if terms.is_empty() {
        return;
    }
    roff.control("SH", [title]);
    for (term, meaning) in terms {
        roff.control("TP", []).text([bold(term)]).text([roman(meaning)]);
    }
}
