//! Errors that Redis answers, and what follows from each of them.

use std::fmt;

use ::redis::RedisError;

use crate::session::{Scope, StoreRefusal};

/// Redis has answered, and said no. Holds nothing of what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Such as `OOM`.
    code: String,
    /// In Redis' own words where those cannot repeat what was sent, else empty.
    text: String,
    scope: Scope,
    advice: &'static str,
    cure: Cure,
}

/// What may help at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cure {
    /// Nothing: it takes time, or an operator.
    None,
    /// Another server may do what this one does not, so the sentinels, the nodes or the name are
    /// asked again. Nothing was done.
    Reconnect,
    /// The script's source.
    Source,
}

/// What is known of a code.
struct Row {
    scope: Option<Scope>,
    cure: Cure,
    is_text_told: bool,
    advice: &'static str,
}

/// Characters of a code; what is longer is none.
const CODE_MAX: usize = 16;
/// Characters of Redis' own words.
const TEXT_MAX: usize = 200;
/// Redis 7.0 gives this the code ERR where a script is refused a command, a key or a channel.
const NO_RIGHTS: &str = "The user executing the script can't ";
/// The same of Redis 7.2 and Valkey, before the words that they have for it outside of scripts.
const NO_RIGHTS_IN_SCRIPT: &str = "ACL failure in script: ";

/// The table. Codes without a scope concern reads or writes, depending on what was asked.
#[rustfmt::skip] // one row a line, so that the table reads as a table
fn row(code: &str) -> Row {
    let (scope, cure, is_text_told, advice) = match code {
        "OOM"         => (Some(Scope::Writes), Cure::None, true, "its memory is full: raise its maxmemory, or let it evict what belongs to others"),
        "MISCONF"     => (Some(Scope::Writes), Cure::None, true, "it cannot save its data: look at its log and its disk"),
        "NOREPLICAS"  => (Some(Scope::Writes), Cure::Reconnect, true, "too few of its replicas are connected for its min-replicas-to-write"),
        "READONLY"    => (Some(Scope::Writes), Cure::Reconnect, true, "it is a replica: name its master in store.urls, or use its sentinels"),
        "MASTERDOWN"  => (None, Cure::Reconnect, true, "it is a replica that has lost its master"),
        "LOADING"     => (None, Cure::Reconnect, true, "it is reading its data after a start: wait"),
        "CLUSTERDOWN" => (None, Cure::Reconnect, true, "no node of the cluster serves these keys: look at CLUSTER INFO"),
        "TRYAGAIN"    => (None, Cure::Reconnect, true, "the cluster is moving these keys: wait"),
        "MOVED" | "ASK"
                      => (None, Cure::Reconnect, true, "it is a node of a cluster: set store.topology to \"cluster\", and have its nodes announce addresses that the bridge can reach"),
        "BUSY"        => (None, Cure::None, true, "a script is running for too long: end it with SCRIPT KILL"),
        "NOAUTH" | "WRONGPASS"
                      => (None, Cure::Reconnect, true, "correct store.username and store.password_file"),
        "NOPERM"      => (None, Cure::None, true, "give its user the rights that the example of the configuration names at store.username"),
        "DENIED"      => (None, Cure::Reconnect, true, "it is in protected mode: give it a password"),
        "WRONGTYPE"   => (None, Cure::None, true, "somebody else uses the same keys: set store.key_prefix to a name of the bridge's own"),
        "NOSCRIPT"    => (None, Cure::Source, false, "it forgets scripts at once: look at its log"),
        "CROSSSLOT"   => (None, Cure::None, true, "this is a bug of the bridge: report it"),
        _             => (None, Cure::None, false, "is it a Redis 7 or a Valkey, and nothing in between? Look at its log"),
    };
    Row { scope, cure, is_text_told, advice }
}

impl Refusal {
    /// What an error says, if Redis has answered at all. `asked` is what the request was for.
    pub(super) fn of(error: &RedisError, asked: Scope) -> Option<Self> {
        // Of a pipeline, the first command that was refused.
        let errors = error.clone().into_server_errors();
        match errors.as_deref() {
            Some([(_, error), ..]) => {
                Some(Self::new(error.code(), error.details().unwrap_or_default(), asked))
            }
            _ => Some(Self::new(error.code()?, error.detail().unwrap_or_default(), asked)),
        }
    }

    fn new(code: &str, text: &str, asked: Scope) -> Self {
        let (code, text) = match text.strip_prefix(NO_RIGHTS_IN_SCRIPT) {
            Some(text) => ("NOPERM", text),
            None if text.starts_with(NO_RIGHTS) => ("NOPERM", text),
            None => (code, text),
        };
        let Row { scope, cure, is_text_told, advice } = row(code);
        // Behind this is where in the script it happened.
        let text = text.split(" script: ").next().unwrap_or_default();
        let text = if is_text_told { shown(text, TEXT_MAX) } else { String::new() };
        let code = shown(code, CODE_MAX);
        Self { code, text, scope: scope.unwrap_or(asked), advice, cure }
    }

    /// What Redis refuses.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// What whoever runs Redis or the bridge can do about it.
    pub fn advice(&self) -> &'static str {
        self.advice
    }

    #[cfg(test)]
    pub(super) fn for_tests(code: &str, asked: Scope) -> Self {
        Self::new(code, "", asked)
    }

    /// Whether only the keys of the request are in question, and others will do.
    pub fn is_about_one_key(&self) -> bool {
        self.code == "WRONGTYPE"
    }

    pub(super) fn cure(&self) -> Cure {
        self.cure
    }
}

fn shown(text: &str, max: usize) -> String {
    let shown = text.trim().chars().take(max);
    shown.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl From<Refusal> for StoreRefusal {
    fn from(refusal: Refusal) -> Self {
        let (scope, advice) = (refusal.scope, refusal.advice);
        Self { scope, answer: refusal.to_string(), advice }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if !self.text.is_empty() {
            write!(f, " {}", self.text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "with args beginning with: 'c4n4ry'";

    /// Whether the words are Redis' own, what is refused to a request that reads and to one that
    /// writes, and what may help.
    fn seen(code: &str) -> (bool, [Scope; 2], Cure) {
        let refusal = |asked| Refusal::new(code, CANARY, asked);
        let scopes = [Scope::Reads, Scope::Writes].map(|asked| refusal(asked).scope());
        let read = refusal(Scope::Reads);
        assert!(!read.advice().is_empty());
        assert!(read.to_string().starts_with(code));
        (read.to_string().contains("c4n4ry"), scopes, read.cure())
    }

    #[test]
    fn every_code_has_what_follows_from_it() {
        use Cure::{None, Reconnect, Source};
        const WRITES: [Scope; 2] = [Scope::Writes, Scope::Writes];
        const ASKED: [Scope; 2] = [Scope::Reads, Scope::Writes];
        for (code, expected) in [
            ("OOM", (true, WRITES, None)),
            ("MISCONF", (true, WRITES, None)),
            ("NOREPLICAS", (true, WRITES, Reconnect)),
            ("READONLY", (true, WRITES, Reconnect)),
            ("MASTERDOWN", (true, ASKED, Reconnect)),
            ("LOADING", (true, ASKED, Reconnect)),
            ("CLUSTERDOWN", (true, ASKED, Reconnect)),
            ("TRYAGAIN", (true, ASKED, Reconnect)),
            ("MOVED", (true, ASKED, Reconnect)),
            ("ASK", (true, ASKED, Reconnect)),
            ("BUSY", (true, ASKED, None)),
            ("NOAUTH", (true, ASKED, Reconnect)),
            ("WRONGPASS", (true, ASKED, Reconnect)),
            ("NOPERM", (true, ASKED, None)),
            ("DENIED", (true, ASKED, Reconnect)),
            ("WRONGTYPE", (true, ASKED, None)),
            ("CROSSSLOT", (true, ASKED, None)),
            // Texts that may repeat a command are not told.
            ("NOSCRIPT", (false, ASKED, Source)),
            ("ERR", (false, ASKED, None)),
            ("EXECABORT", (false, ASKED, None)),
            ("NEWCODE", (false, ASKED, None)),
            ("", (false, ASKED, None)),
        ] {
            assert_eq!(seen(code), expected, "{code}");
        }
    }

    #[test]
    fn a_script_without_rights_is_told_like_a_command_without_them() {
        for (text, told) in [
            (
                "The user executing the script can't run this command or subcommand script: \
                 1f8f4cfba6f3375f8c4ec02b9de4361a5dea5c64, on @user_script:1.",
                "The user executing the script can't run this command or subcommand",
            ),
            (
                "ACL failure in script: User bridge has no permissions to run the 'hset' command \
                 script: on @user_script:1.",
                "User bridge has no permissions to run the 'hset' command",
            ),
        ] {
            let refusal = Refusal::new("ERR", text, Scope::Writes);
            let expected = format!("NOPERM {told}");
            assert_eq!((refusal.to_string(), refusal.cure()), (expected, Cure::None));
        }
    }

    #[test]
    fn garbage_is_shown_as_text_of_bounded_length() {
        let garbage = "\u{1b}[31m\n".repeat(10_000);
        let refusal = Refusal::new(&garbage, &garbage, Scope::Reads);
        assert!(refusal.to_string().len() <= CODE_MAX + 1 + TEXT_MAX);
        let told = Refusal::new("OOM", &garbage, Scope::Reads).to_string();
        assert!(told.len() <= 4 + TEXT_MAX && !told.contains(char::is_control), "{told:?}");
    }
}
