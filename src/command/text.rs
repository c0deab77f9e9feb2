//! Text that fits a terminal.

/// The default width of a terminal, in columns.
const WIDTH: usize = 80;

/// `head` and `text`, wrapped at [`WIDTH`]; the later lines begin after `indent` spaces. A word that is
/// longer than a line is not broken.
pub(super) fn wrapped(head: &str, text: &str, indent: usize) -> String {
    let mut lines = head.to_owned();
    let mut column = head.chars().count();
    let mut is_first = true;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !is_first && column + 1 + length > WIDTH {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
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
}
