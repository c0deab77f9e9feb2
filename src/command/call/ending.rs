//! How a call has ended, as its exit code tells a script.

use std::process::ExitCode;

use crate::call::Outcome;

/// How a call has ended, from good to bad. A batch ends as the worst of its agents does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    /// It is done.
    Done,
    /// The gateway has accepted it, and the event that would confirm it has not come.
    Unconfirmed,
    /// It is not done, and the agent is as it was.
    NotDone,
    /// There was no connection to a bridge, so nobody was asked.
    NoBridge,
    /// It may be done or not.
    Unknown,
}

/// For `--help` and the man pages.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  not done, and the agent is as it was
  2  a mistake on the command line, or no connection to a bridge
  3  not known: the agent may have changed, so look before trying again
  4  accepted, but not confirmed within --confirm-within
Where agents end differently, the worst counts: 3, then 1, then 4.";

impl Ending {
    /// What the outcome of an error says, as the bridge spells it. One that this program does not
    /// know says nothing.
    pub(super) fn of_outcome(outcome: Option<&str>) -> Self {
        match outcome.and_then(Outcome::find) {
            Some(Outcome::NotSent | Outcome::Refused) => Self::NotDone,
            Some(Outcome::Unknown) | None => Self::Unknown,
        }
    }

    /// What it comes to for somebody who has asked for a confirmation, or not.
    pub(super) fn where_confirmation(self, wanted: bool) -> Self {
        if self == Self::Unconfirmed && !wanted { Self::Done } else { self }
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(match ending {
            Ending::Done => 0,
            Ending::NotDone => 1,
            Ending::NoBridge => 2,
            Ending::Unknown => 3,
            Ending::Unconfirmed => 4,
        })
    }
}
