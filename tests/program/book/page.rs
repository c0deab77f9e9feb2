//! One page, from its first block to its last.

use std::path::{Path, PathBuf};

use super::{
    blocks::{self, Block},
    console, documents,
    kinds::{self, Info, Kind},
    stand::Stand,
    toml,
};

/// What became of a page's blocks.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// What was done: a line number with what was run, checked or left out.
    pub(super) done: Vec<String>,
    /// Each with the file and the line.
    pub(super) mistakes: Vec<String>,
    /// How many commands were run.
    pub(super) ran: usize,
}

/// A page on the way, with what its commands need, once there is one that is run.
struct Page {
    file: PathBuf,
    report: Report,
    stand: Option<Stand>,
}

/// Runs and checks all blocks of a page in their order.
pub(super) async fn go_through(file: &Path) -> Report {
    let text = documents::read(file);
    let parts = blocks::parts(&text);
    let mut page = Page { file: file.to_owned(), report: Report::default(), stand: None };
    if let Some(line) = parts.unclosed {
        page.mistake(line, "the block has no end");
    }
    for block in &parts.blocks {
        match kinds::info(&block.info) {
            Ok(_) if block.info == "mermaid" && file != Path::new("README.md") => {
                page.mistake(block.line, "the book shows no Mermaid: make it a picture");
            }
            Ok(info) => page.take(block, &info).await,
            Err(why) => page.mistake(block.line, &why),
        }
    }
    if let Some(stand) = page.stand.take() {
        stand.take_down().await;
    }
    page.report
}

impl Page {
    fn mistake(&mut self, line: usize, what: &str) {
        self.report.mistakes.push(format!("{}:{line}: {what}", self.file.display()));
    }

    fn done(&mut self, line: usize, what: &str) {
        self.report.done.push(format!("{line}: {what}"));
    }

    async fn stand(&mut self) -> &mut Stand {
        if self.stand.is_none() {
            self.stand = Some(Stand::set_up().await);
        }
        self.stand.as_mut().expect("set up")
    }

    async fn take(&mut self, block: &Block, info: &Info) {
        let text = &block.text;
        if let Some(from) = &info.from {
            return self.compared(block, from);
        }
        if let Some(name) = &info.file {
            let stand = self.stand().await;
            let text = stand.ports.used_for(text);
            stand.shell.write(name, &text);
            self.done(block.line, &format!("makes {name}"));
        }
        if let Some(mark) = info.mark {
            let first = text.lines().next().unwrap_or_default();
            return self.done(block.line, &format!("NOT RUN ({mark:?}): {first}"));
        }
        match info.kind {
            Kind::Console => self.console(block.line, text).await,
            Kind::Sh if info.file.is_none() => self.script(block.line, text).await,
            Kind::Python if info.file.is_none() => self.python(block.line, text).await,
            Kind::Toml => self.checked(block.line, "configuration", toml::mistake(text).await),
            Kind::Credentials => {
                self.checked(block.line, "credentials", toml::mistake_of_credentials(text).await);
            }
            Kind::Sh | Kind::Python | Kind::Shown => {}
        }
    }

    /// A piece of a program that has tests of its own.
    fn compared(&mut self, block: &Block, from: &str) {
        match documents::piece(from) {
            Ok(piece) if piece.trim_end() == block.text.trim_end() => {
                self.done(block.line, &format!("is as in {from}"));
            }
            Ok(piece) => self.mistake(block.line, &format!("is not as in {from}:\n{piece}")),
            Err(why) => self.mistake(block.line, &why),
        }
    }

    fn checked(&mut self, line: usize, what: &str, mistake: Option<String>) {
        match mistake {
            None => self.done(line, &format!("is a good {what}")),
            Some(mistake) => self.mistake(line, &format!("is no good {what}: {mistake}")),
        }
    }

    async fn console(&mut self, line: usize, text: &str) {
        let commands = match console::commands(text) {
            Ok(commands) => commands,
            Err(why) => return self.mistake(line, &why),
        };
        for command in commands {
            let line = line + 1 + command.line;
            let Some((code, printed)) = self.run(line, &["sh", "-c"], &command.text).await else {
                continue;
            };
            if code != Some(0) && !command.may_fail() {
                self.mistake(line, &ended_badly(&command.text, code, &printed));
            } else if !command.is_shown(&printed) {
                let (text, shown) = (&command.text, &command.shown);
                let what = format!("{text}\nprints\n{printed}\nwhere the page shows\n{shown}");
                self.mistake(line, &what);
            }
        }
    }

    async fn script(&mut self, line: usize, text: &str) {
        // With `-x`, what goes wrong is behind the last command that is shown.
        let ran = self.run(line, &["sh", "-exc"], text).await;
        if let Some((code, printed)) = ran.filter(|(code, _)| *code != Some(0)) {
            self.mistake(line, &ended_badly(text, code, &printed));
        }
    }

    async fn python(&mut self, line: usize, text: &str) {
        let ran = self.run(line, &["python3", "-c"], text).await;
        if let Some((code, printed)) = ran.filter(|(code, _)| *code != Some(0)) {
            self.mistake(line, &ended_badly("the program", code, &printed));
        }
    }

    /// Runs a text with the addresses of the demo; what it printed has those of the page.
    async fn run(
        &mut self,
        line: usize,
        program: &[&str; 2],
        text: &str,
    ) -> Option<(Option<i32>, String)> {
        let stand = self.stand().await;
        let here = stand.ports.used_for(text);
        let ended = stand.shell.run(&[program[0], program[1], &here]).await;
        let ended = ended.map(|(code, printed)| (code, stand.ports.named_in(&printed)));
        self.report.ran += 1;
        let runs = if program[0] == "sh" { text.trim_end() } else { "a program in Python" };
        self.done(line, &format!("$ {runs}"));
        match ended {
            Ok(ended) => Some(ended),
            Err(why) => {
                self.mistake(line, &format!("{runs}\n{why}"));
                None
            }
        }
    }
}

fn ended_badly(what: &str, code: Option<i32>, printed: &str) -> String {
    let code = code.map_or("a signal".to_owned(), |code| format!("exit code {code}"));
    format!("{}\nended with {code}, and printed\n{printed}", what.trim_end())
}
