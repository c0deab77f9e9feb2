//! The fenced blocks of a Markdown text.

/// A fenced block, without the fences and what they are indented by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Of the opening fence, from 1.
    pub(super) line: usize,
    /// What stands behind the opening fence.
    pub(super) info: String,
    pub(super) text: String,
}

/// Line numbers from 1, of what is in no block, with those lines; and the blocks.
pub(super) struct Parts<'a> {
    pub(super) prose: Vec<(usize, &'a str)>,
    pub(super) blocks: Vec<Block>,
    /// The line of a block's opening fence, if it has no other one.
    pub(super) unclosed: Option<usize>,
}

/// Takes a text apart.
pub(super) fn parts(text: &str) -> Parts<'_> {
    let mut parts = Parts { prose: Vec::new(), blocks: Vec::new(), unclosed: None };
    let mut open: Option<(Fence<'_>, Block)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        match (&mut open, fence(line)) {
            (None, Some(fence)) => {
                let info = fence.info.to_owned();
                open = Some((fence, Block { line: number, info, text: String::new() }));
            }
            (None, None) => parts.prose.push((number, line)),
            (Some((begun, _)), Some(fence)) if fence.closes(begun) => {
                parts.blocks.extend(open.take().map(|(_, block)| block));
            }
            (Some((begun, block)), _) => {
                let spaces = line.len() - line.trim_start_matches(' ').len();
                block.text.extend([&line[spaces.min(begun.indent)..], "\n"]);
            }
        }
    }
    parts.unclosed = open.map(|(_, block)| block.line);
    parts
}

struct Fence<'a> {
    indent: usize,
    mark: char,
    length: usize,
    info: &'a str,
}

impl Fence<'_> {
    fn closes(&self, begun: &Fence<'_>) -> bool {
        self.mark == begun.mark && self.length >= begun.length && self.info.is_empty()
    }
}

fn fence(line: &str) -> Option<Fence<'_>> {
    let trimmed = line.trim_start_matches(' ');
    let mark = trimmed.chars().next().filter(|mark| ['`', '~'].contains(mark))?;
    let info = trimmed.trim_start_matches(mark);
    let length = trimmed.len() - info.len();
    let is = length >= 3 && !(mark == '`' && info.contains('`'));
    is.then_some(Fence { indent: line.len() - trimmed.len(), mark, length, info: info.trim() })
}

#[cfg(test)]
mod tests {
    use super::{Block, parts};

    fn block(line: usize, info: &str, text: &str) -> Block {
        Block { line, info: info.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn blocks_end_at_a_fence_like_their_first() {
        let text = "a\n```sh\nb\n```\nc\n~~~~ toml,file=x \n```\n~~~\n~~~~\n````\n```x\n````\n";
        let parts = parts(text);
        assert_eq!(parts.prose, [(1, "a"), (5, "c")]);
        let expected =
            [block(2, "sh", "b\n"), block(6, "toml,file=x", "```\n~~~\n"), block(10, "", "```x\n")];
        assert_eq!(parts.blocks, expected);
        assert_eq!(parts.unclosed, None);
    }

    #[test]
    fn a_block_in_a_list_loses_the_lists_indent() {
        let parts = parts("* a\n\n  ```sh\n  b\n    c\n\n  ```\n* d ```e```\n");
        assert_eq!(parts.blocks, [block(3, "sh", "b\n  c\n\n")]);
        assert_eq!(parts.prose, [(1, "* a"), (2, ""), (8, "* d ```e```")]);
    }

    #[test]
    fn a_block_without_an_end_is_none() {
        let parts = parts("```sh\na\n```\n\n```sh\nb\n");
        assert_eq!((parts.blocks.len(), parts.unclosed), (1, Some(5)));
    }
}
