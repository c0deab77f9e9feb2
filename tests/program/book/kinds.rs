//! How a block is tested, by its info string.

/// What a block is.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(super) enum Kind {
    /// Commands behind `$ `, each with what it prints.
    Console,
    /// Commands alone, which a shell runs as one script that ends at the first failure.
    Sh,
    /// A program in Python, with the contract's modules at hand.
    Python,
    /// A configuration, or a part of one.
    Toml,
    /// A file with what agents sign in with.
    Credentials,
    /// Only shown.
    Shown,
}

/// Why a block is not run.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum Mark {
    /// It needs a Kubernetes cluster.
    Cluster,
    /// It needs a gateway, a Redis, a collector or a pipeline of the reader's own.
    Own,
    /// It fetches from the network.
    Install,
    /// It builds for minutes, and what it builds is what this test runs anyway.
    Build,
}

/// An info string that has been understood.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(super) struct Info {
    pub(super) kind: Kind,
    pub(super) mark: Option<Mark>,
    /// The file that the reader is told to make of the block.
    pub(super) file: Option<String>,
    /// The file of the project that it is a piece of, with the piece's name if it is not all of it.
    pub(super) from: Option<String>,
}

/// Languages of which nothing is run or checked.
const SHOWN: [&str; 17] = [
    "text",
    "json",
    "proto",
    "yaml",
    "go",
    "java",
    "rust",
    "typescript",
    "javascript",
    "http",
    "promql",
    "xml",
    "groovy",
    "nginx",
    "ini",
    "dockerfile",
    "mermaid",
];

const RULES: &str = "`console` and `sh` (with a comma and cluster, own, install or build where they \
                     cannot run), `python`, `toml`, `toml,credentials`, `text`, `json` and so on are \
                     known, each with `file=NAME` or \
                     `from=FILE:NAME`";

/// Understands an info string.
pub(super) fn info(text: &str) -> Result<Info, String> {
    let mut words = text.split(',').map(str::trim);
    let language = words.next().unwrap_or_default();
    let kind = match language {
        "console" => Kind::Console,
        "sh" => Kind::Sh,
        "python" => Kind::Python,
        "toml" => Kind::Toml,
        shown if SHOWN.contains(&shown) => Kind::Shown,
        _ => return Err(format!("the language {language:?} is not known: {RULES}")),
    };
    let mut info = Info { kind, mark: None, file: None, from: None };
    for word in words {
        take(&mut info, word).ok_or_else(|| {
            format!("the mark {word:?} is not known behind {language:?}: {RULES}")
        })?;
    }
    Ok(info)
}

fn take(info: &mut Info, word: &str) -> Option<()> {
    if let Some(what) = word.strip_prefix("from=") {
        let good = !what.is_empty() && info.from.is_none();
        info.from = good.then(|| what.to_owned());
        return good.then_some(());
    }
    if let Some(name) = word.strip_prefix("file=") {
        let plain = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '-', '/'].contains(&c);
        let inside = !name.is_empty() && name.chars().all(plain) && !name.starts_with('/');
        let good = inside && !name.split('/').any(|part| part == "..") && info.file.is_none();
        info.file = good.then(|| name.to_owned());
        return good.then_some(());
    }
    let runs = matches!(info.kind, Kind::Console | Kind::Sh | Kind::Python);
    match word {
        "credentials" if info.kind == Kind::Toml => info.kind = Kind::Credentials,
        _ if !runs || info.mark.is_some() => return None,
        "cluster" => info.mark = Some(Mark::Cluster),
        "own" => info.mark = Some(Mark::Own),
        "install" => info.mark = Some(Mark::Install),
        "build" => info.mark = Some(Mark::Build),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::{Info, Kind, Mark, info};

    #[test]
    fn an_info_string_says_what_is_done() {
        for (text, kind, mark, file) in [
            ("console", Kind::Console, None, None),
            ("sh,cluster", Kind::Sh, Some(Mark::Cluster), None),
            ("sh, own", Kind::Sh, Some(Mark::Own), None),
            ("console,install", Kind::Console, Some(Mark::Install), None),
            ("sh,build", Kind::Sh, Some(Mark::Build), None),
            ("toml", Kind::Toml, None, None),
            ("toml,file=bridge.toml", Kind::Toml, None, Some("bridge.toml")),
            ("toml,credentials,file=a/b-c.toml", Kind::Credentials, None, Some("a/b-c.toml")),
            ("python", Kind::Python, None, None),
            ("json", Kind::Shown, None, None),
            ("text,file=word", Kind::Shown, None, Some("word")),
        ] {
            let expected = Info { kind, mark, file: file.map(str::to_owned), from: None };
            assert_eq!(info(text), Ok(expected), "{text}");
        }
        let from = info("go,from=a/b.go:part").expect("known").from;
        assert_eq!(from.as_deref(), Some("a/b.go:part"));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in [
            "",
            "bash",
            "shell",
            "sh,ignore",
            "sh,cluster,own",
            "toml,own",
            "json,cluster",
            "sh,credentials",
            "console,",
            "toml,file=",
            "toml,file=/etc/x",
            "toml,file=a/../../b",
            "text,file=a,file=b",
            "go,from=",
            "go,from=a,from=b",
            "Toml",
            "text file=a",
        ] {
            assert!(info(text).is_err(), "{text:?}");
        }
    }
}
