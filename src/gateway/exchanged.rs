//! The result of one exchange with a gateway.
use crate::retcode::Kind;

/// The result of one exchange with a gateway. Metrics, spans and the health of an address all use
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exchanged {
    /// The gateway accepted the request.
    Accepted,
    /// The gateway accepted a sign-in but sent no Guid, although it is one with Guids.
    WithoutGuid,
    /// The gateway refused the request.
    Refused(Kind),
    /// The answer is unreadable, or its envelope and HTTP status contradict each other.
    BadReply,
    /// The answer has an HTTP status other than 2xx and no envelope.
    HttpStatus,
    /// No connection could be made.
    Unreachable,
    /// The request was sent, and no complete answer came.
    NoAnswer,
    /// The request was not sent, since nobody waited for it any more or no place was free.
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

    /// The spelling in metrics and spans.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_result_has_a_number_of_its_own_and_three_are_no_answers() {
        let others = [
            Exchanged::Accepted,
            Exchanged::WithoutGuid,
            Exchanged::BadReply,
            Exchanged::HttpStatus,
            Exchanged::Unreachable,
            Exchanged::NoAnswer,
            Exchanged::GivenUp,
        ];
        let refusals = Kind::ALL.into_iter().map(Exchanged::Refused);
        let all: Vec<_> = others.into_iter().chain(refusals).collect();
        let numbers: BTreeSet<_> = all.iter().map(|result| result.number()).collect();
        assert_eq!(numbers, (0..Exchanged::COUNT).collect());
        let unanswered = all.iter().filter(|result| result.is_unanswered());
        let unanswered: Vec<_> = unanswered.map(|result| result.as_str()).collect();
        assert_eq!(unanswered, ["unreachable", "no_answer", "given_up"]);
    }
}
