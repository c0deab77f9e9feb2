//! Blocks that show commands and their output.

/// A command with what the page says that it prints.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// Its first line in the block, from 0.
    pub(super) line: usize,
    pub(super) text: String,
    /// Empty where the page shows nothing.
    pub(super) shown: String,
}

/// The commands of a block; an error names what comes before any.
pub(super) fn commands(block: &str) -> Result<Vec<Command>, String> {
    let mut commands: Vec<Command> = Vec::new();
    let mut goes_on = false;
    for (number, line) in block.lines().enumerate() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (_, Some(command)) if goes_on => command.text.extend(["\n", line]),
            (Some(text), _) => {
                let text = text.to_owned();
                commands.push(Command { line: number, text, shown: String::new() });
            }
            (None, Some(command)) => {
                command.shown.extend([line, "\n"]);
                continue;
            }
            (None, None) if line.trim().is_empty() => continue,
            (None, None) => return Err(format!("{line:?} comes before any \"$ \"")),
        }
        goes_on = line.ends_with('\\');
    }
    if commands.is_empty() {
        return Err("a console without any \"$ \"".to_owned());
    }
    Ok(commands)
}

impl Command {
    /// Whether it may end with another code than 0: where the page shows what it prints.
    pub(super) fn may_fail(&self) -> bool {
        !self.shown.trim().is_empty()
    }

    /// Whether this is printed where the page shows that: the words are, and `…` stands for any.
    pub(super) fn is_shown(&self, printed: &str) -> bool {
        // Once its time is up, grpcurl may have none left to ask what the details' types are.
        let timed = self.text.contains("-max-time");
        let compared = |text: &str| {
            let text = if timed { text.split("Details:").next().unwrap_or_default() } else { text };
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        !self.may_fail() || matches(&compared(&self.shown), &compared(printed))
    }
}

/// Whether a text is like a pattern in which `…` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('…').map(str::trim);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::{Command, commands, matches};

    #[test]
    fn commands_go_on_behind_a_backslash_and_print_what_follows() {
        let block = "$ one \\\n  more\n\n$ two\nprinted\n\n  here\n$ three\n";
        let command = |line, text: &str, shown: &str| Command {
            line,
            text: text.to_owned(),
            shown: shown.to_owned(),
        };
        let expected = [
            command(0, "one \\\n  more", "\n"),
            command(3, "two", "printed\n\n  here\n"),
            command(7, "three", ""),
        ];
        assert_eq!(commands(block).expect("commands"), expected);
        assert_eq!(expected.map(|command| command.may_fail()), [false, true, false]);
        assert!(commands("printed\n$ one\n").is_err());
        assert!(commands("one\n").is_err());
    }

    #[test]
    fn what_is_printed_has_to_be_what_is_shown() {
        for (pattern, text, expected) in [
            ("a b", "a b", true),
            ("a b", "a b c", false),
            ("a … c", "a b c", true),
            ("a … c", "a c", true),
            ("a … c", "a b d", false),
            ("a … c … e", "a b c d e", true),
            ("a … d … c", "a c d", false),
            ("a…", "ab c", true),
            ("… c", "a b c", true),
            ("… c", "c b a", false),
            ("…", "anything", true),
            // The same letters cannot stand for two parts.
            ("a … a", "a", false),
            ("ab … ba … a", "abba", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern:?} and {text:?}");
        }
    }
}
