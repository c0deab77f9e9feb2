//! How a call has ended, and the exit code that tells a script so.

use std::process::ExitCode;

use crate::{call::Outcome, command::text::wrapped};

/// How a call has ended, from best to worst. A batch ends as the worst of its agents does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    /// The call succeeded.
    Done,
    /// The gateway has accepted the change, but the event that would confirm it has not come.
    Unconfirmed,
    /// The call failed, and the agent is as it was.
    NotDone,
    /// There was no connection to a bridge, so the agent is as it was.
    NoBridge,
    /// Whether the agent has changed is not known.
    Unknown,
}

/// The exit codes, for `--help` and the man pages.
pub(in crate::command) const EXIT_CODES: [(&str, &str); 5] = [
    ("0", "done"),
    ("1", "not done, and the agent is as it was"),
    ("2", "a mistake on the command line, or no connection to a bridge"),
    (
        "3",
        "not known, or the answer could not be written to stdout: the agent may have changed, so look before \
         trying again",
    ),
    ("4", "accepted, but not confirmed within --confirm-within"),
];

/// The exit codes as `--help` has them.
pub(super) fn exit_codes() -> String {
    let lines = EXIT_CODES.map(|(code, meaning)| wrapped(&format!("  {code}  "), meaning, 5));
    let lines = lines.join("\n");
    format!(
        "Exit codes:\n{lines}\nWhere agents end differently, the worst counts: 3, then 1, then 4."
    )
}

/// The exit code of [`Ending::Unknown`].
pub(in crate::command) const EXIT_UNKNOWN: u8 = 3;

impl Ending {
    /// From the `outcome` of an error, as the bridge spells it. An outcome that this program does not
    /// know, such as one of a newer bridge, is [`Ending::Unknown`].
    pub(super) fn of_outcome(outcome: Option<&str>) -> Self {
        match outcome.and_then(Outcome::find) {
            Some(Outcome::NotSent | Outcome::Refused | Outcome::NotApplied) => Self::NotDone,
            Some(Outcome::Unknown) | None => Self::Unknown,
        }
    }

    /// Turns [`Ending::Unconfirmed`] into [`Ending::Done`] if no confirmation was `wanted`.
    pub(super) fn if_confirmation_wanted(self, wanted: bool) -> Self {
        if self == Self::Unconfirmed && !wanted { Self::Done } else { self }
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(match ending {
            Ending::Done => 0,
            Ending::NotDone => 1,
            Ending::NoBridge => 2,
            Ending::Unknown => EXIT_UNKNOWN,
            Ending::Unconfirmed => 4,
        })
    }
}
