use crate::retcode::Kind;

/// What came of one exchange with a gateway. Metrics, spans and the health of an address tell it from
/// this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exchanged {
    /// The gateway accepted it.
    Accepted,
    /// It accepted a sign-in without a Guid, though it is one that has them.
    WithoutGuid,
    /// It refused it.
    Refused(Kind),
    /// The answer says neither, or both.
    BadReply,
    /// The answer has a status that says no, and nothing of a gateway's.
    HttpStatus,
    /// There was no connection.
    Unreachable,
    /// It was sent, and there is no whole answer.
    NoAnswer,
    /// It was not sent: nobody waited for it any more, or there was no place for it.
    GivenUp,
}

impl Exchanged {
    /// How many there are.
    pub(super) const COUNT: usize = 7 + Kind::ALL.len();

    /// The number of this one, which is less than [`COUNT`](Self::COUNT).
    pub(super) const fn number(self) -> usize {
        match self {
            Self::Accepted => 0,
            Self::WithoutGuid => 1,
            Self::BadReply => 2,
            Self::HttpStatus => 3,
            Self::Unreachable => 4,
            Self::NoAnswer => 5,
            Self::GivenUp => 6,
            Self::Refused(kind) => 7 + kind as usize,
        }
    }

    /// As metrics and spans spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "ok",
            Self::WithoutGuid => "no_guid",
            Self::Refused(kind) => kind.as_str(),
            Self::BadReply => "bad_reply",
            Self::HttpStatus => "http_status",
            Self::Unreachable => "unreachable",
            Self::NoAnswer => "no_answer",
            Self::GivenUp => "given_up",
        }
    }

    /// Whether there was no answer at all.
    pub fn is_unanswered(self) -> bool {
        matches!(self, Self::Unreachable | Self::NoAnswer | Self::GivenUp)
    }
}
