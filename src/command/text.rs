//! Text that fits a terminal.

use std::fmt;

use serde_json::Value;

/// The default width of a terminal, in columns.
const WIDTH: usize = 80;

/// `head` and `text`, wrapped at [`WIDTH`]; the later lines begin after `indent` spaces. A word that is
/// longer than a line is not broken.
pub(super) fn wrapped(head: &str, text: &str, indent: usize) -> String {
    lines(head, text.split_whitespace(), indent, "")
}

/// A command that can be copied into a shell, in lines that are indented by two spaces. Words with a
/// space in them stay in one line, such as an option and its value.
#[cfg(feature = "simulator")]
pub(super) fn command<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    lines("  ", words, 4, " \\")
}

/// Writes a line `path  value` for each field that is not empty.
pub(super) fn write_fields(f: &mut fmt::Formatter<'_>, path: &str, value: &Value) -> fmt::Result {
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            let separator = if path.is_empty() { "" } else { "." };
            write_fields(f, &format!("{path}{separator}{name}"), value)
        }),
        Value::Null => Ok(()),
        Value::String(text) if text.is_empty() => Ok(()),
        // Text from the network must not send control codes to the terminal.
        Value::String(text) => write!(f, "\n  {path:<18} {}", text.replace(char::is_control, " ")),
        other => write!(f, "\n  {path:<18} {other}"),
    }
}

/// `end` is at the end of each line but the last.
fn lines<'a>(
    head: &str,
    words: impl IntoIterator<Item = &'a str>,
    indent: usize,
    end: &str,
) -> String {
    let mut lines = head.to_owned();
    let mut column = head.chars().count();
    let mut is_first = true;
    for word in words {
        let length = word.chars().count();
        if !is_first && column + 1 + length + end.len() > WIDTH {
            lines.extend([end, "\n", &" ".repeat(indent)]);
            column = indent;
        } else if !is_first {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
        is_first = false;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_before_the_last_column_and_no_word_is_broken() {
        let (long, text) = ("x".repeat(100), "word ".repeat(40));
        let lines = wrapped("  head: ", &format!("{text}{long} end"), 4);
        let lines: Vec<_> = lines.lines().collect();
        let (last, others) = lines.split_last().expect("lines");
        assert_eq!(*last, "    end");
        assert_eq!(others.last(), Some(&format!("    {long}").as_str()));
        assert!(others.iter().rev().skip(1).all(|line| line.len() <= WIDTH), "{lines:#?}");
        assert!(lines[0].starts_with("  head: word word") && lines[1].starts_with("    word"));
        assert_eq!(wrapped("head ", "", 2), "head ");
    }

    #[cfg(feature = "simulator")]
    #[test]
    fn a_command_of_several_lines_is_still_one() {
        let word = "--option value";
        let lines = command(["program", word, word, word, word, word, word]);
        assert!(lines.lines().all(|line| line.len() <= WIDTH), "{lines}");
        assert_eq!(
            lines.replace(" \\\n   ", ""),
            format!("  program{}", format!(" {word}").repeat(6))
        );
        assert_eq!(command(["program", word]), format!("  program {word}"));
    }
}
