//! Errors that Redis answers, and what follows from each.

use std::fmt;

use ::redis::RedisError;

use crate::session::{Scope, StoreRefusal};

/// An error that Redis has answered. Never contains what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error code, such as `OOM`.
    code: String,
    /// Redis' own text if it cannot repeat what was sent; otherwise empty.
    text: String,
    scope: Scope,
    advice: &'static str,
    cure: Cure,
    passes: bool,
}

/// What the bridge can try at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cure {
    /// Nothing: it needs time, or an operator.
    None,
    /// Find another server: the sentinels, the nodes or the host name are asked again. Redis has
    /// not carried out the command.
    Reconnect,
    /// Send the script's source.
    Source,
}

/// What is known about a code.
struct Row {
    scope: Option<Scope>,
    cure: Cure,
    is_text_told: bool,
    /// Whether Redis does later, by itself or once there is room, what it refuses now.
    passes: bool,
    advice: &'static str,
}

/// How many characters of a code are shown.
const CODE_MAX: usize = 16;
/// How many characters of Redis' own text are shown.
const TEXT_MAX: usize = 200;
/// If a script has no right to a command, a key or a channel, Redis 7.0 answers with the code ERR
/// and a text that begins like this.
const NO_RIGHTS: &str = "The user executing the script can't ";
/// The same for Redis 7.2 and Valkey. After it comes their usual text for missing rights.
const NO_RIGHTS_IN_SCRIPT: &str = "ACL failure in script: ";

/// The table of codes. A code without a scope refuses reads or writes, depending on the request.
#[rustfmt::skip] // one row a line, so that the table reads as a table
fn row(code: &str) -> Row {
    let (scope, cure, is_text_told, passes, advice) = match code {
        "OOM"         => (Some(Scope::Writes), Cure::None, true, true, "its memory is full: raise its maxmemory, or let it evict what belongs to others"),
        "MISCONF"     => (Some(Scope::Writes), Cure::None, true, true, "it cannot save its data: look at its log and its disk"),
        "NOREPLICAS"  => (Some(Scope::Writes), Cure::Reconnect, true, true, "too few of its replicas are connected for its min-replicas-to-write"),
        "READONLY"    => (Some(Scope::Writes), Cure::Reconnect, true, true, "it is a replica: name its master in store.urls, or use its sentinels"),
        "MASTERDOWN"  => (None, Cure::Reconnect, true, true, "it is a replica that has lost its master"),
        "LOADING"     => (None, Cure::Reconnect, true, true, "it is reading its data after a start: wait"),
        "CLUSTERDOWN" => (None, Cure::Reconnect, true, true, "no node of the cluster serves these keys: look at CLUSTER INFO"),
        "TRYAGAIN"    => (None, Cure::Reconnect, true, true, "the cluster is moving these keys: wait"),
        "MOVED" | "ASK"
                      => (None, Cure::Reconnect, true, false, "it is a node of a cluster: set store.topology to \"cluster\", and have its nodes announce addresses that the bridge can reach"),
        "BUSY"        => (None, Cure::None, true, true, "a script is running for too long: end it with SCRIPT KILL"),
        "NOAUTH" | "WRONGPASS"
                      => (None, Cure::Reconnect, true, false, "correct store.username and store.password_file"),
        "NOPERM"      => (None, Cure::None, true, false, "give its user the rights that the example of the configuration names at store.username"),
        "DENIED"      => (None, Cure::Reconnect, true, false, "it is in protected mode: give it a password"),
        "WRONGTYPE"   => (None, Cure::None, true, false, "somebody else uses the same keys: set store.key_prefix to a name of the bridge's own"),
        "NOSCRIPT"    => (None, Cure::Source, false, false, "it forgets scripts at once: look at its log"),
        "CROSSSLOT"   => (None, Cure::None, true, false, "this is a bug of the bridge: report it"),
        _             => (None, Cure::None, false, false, "is it a Redis 7 or a Valkey, and nothing in between? Look at its log"),
    };
    Row { scope, cure, is_text_told, passes, advice }
}

impl Refusal {
    /// The refusal in an error; `None` if Redis has not answered at all. `asked` is what the
    /// request was for.
    pub(super) fn of(error: &RedisError, asked: Scope) -> Option<Self> {
        // In a pipeline, the first command that was refused counts.
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
        let Row { scope, cure, is_text_told, passes, advice } = row(code);
        // What follows is the place in the script.
        let text = text.split(" script: ").next().unwrap_or_default();
        let text = if is_text_told { shown(text, TEXT_MAX) } else { String::new() };
        let code = shown(code, CODE_MAX);
        Self { code, text, scope: scope.unwrap_or(asked), advice, cure, passes }
    }

    /// What Redis refuses.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// What the operator of Redis or of the bridge can do about it.
    pub fn advice(&self) -> &'static str {
        self.advice
    }

    #[cfg(test)]
    pub(super) fn for_tests(code: &str, asked: Scope) -> Self {
        Self::new(code, "", asked)
    }

    /// Whether the refusal concerns only the keys of this request.
    pub fn is_about_one_key(&self) -> bool {
        self.code == "WRONGTYPE"
    }

    pub(super) fn cure(&self) -> Cure {
        self.cure
    }

    /// Whether Redis is as good as away, and will be back: later it does what it refuses now.
    pub(super) fn passes(&self) -> bool {
        self.passes
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

    /// Whether Redis' own text is shown, what is refused to a request that reads and to one that
    /// writes, the cure, and whether it passes.
    fn seen(code: &str) -> (bool, [Scope; 2], Cure, bool) {
        let refusal = |asked| Refusal::new(code, CANARY, asked);
        let scopes = [Scope::Reads, Scope::Writes].map(|asked| refusal(asked).scope());
        let read = refusal(Scope::Reads);
        assert!(!read.advice().is_empty());
        assert!(read.to_string().starts_with(code));
        (read.to_string().contains("c4n4ry"), scopes, read.cure(), read.passes())
    }

    #[test]
    fn every_code_has_what_follows_from_it() {
        use Cure::{None, Reconnect, Source};
        const WRITES: [Scope; 2] = [Scope::Writes, Scope::Writes];
        const ASKED: [Scope; 2] = [Scope::Reads, Scope::Writes];
        for (code, expected) in [
            ("OOM", (true, WRITES, None, true)),
            ("MISCONF", (true, WRITES, None, true)),
            ("NOREPLICAS", (true, WRITES, Reconnect, true)),
            ("READONLY", (true, WRITES, Reconnect, true)),
            ("MASTERDOWN", (true, ASKED, Reconnect, true)),
            ("LOADING", (true, ASKED, Reconnect, true)),
            ("CLUSTERDOWN", (true, ASKED, Reconnect, true)),
            ("TRYAGAIN", (true, ASKED, Reconnect, true)),
            ("MOVED", (true, ASKED, Reconnect, false)),
            ("ASK", (true, ASKED, Reconnect, false)),
            ("BUSY", (true, ASKED, None, true)),
            ("NOAUTH", (true, ASKED, Reconnect, false)),
            ("WRONGPASS", (true, ASKED, Reconnect, false)),
            ("NOPERM", (true, ASKED, None, false)),
            ("DENIED", (true, ASKED, Reconnect, false)),
            ("WRONGTYPE", (true, ASKED, None, false)),
            ("CROSSSLOT", (true, ASKED, None, false)),
            // Texts that may repeat a command are not shown.
            ("NOSCRIPT", (false, ASKED, Source, false)),
            ("ERR", (false, ASKED, None, false)),
            ("EXECABORT", (false, ASKED, None, false)),
            ("NEWCODE", (false, ASKED, None, false)),
            ("", (false, ASKED, None, false)),
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
