use std::time::Duration;

use super::{CallError, Obstacle, Refusal};

/// The proof that a call has not changed its agent: nothing of the call's request has been written,
/// or what was written has been refused.
///
/// Only code that has this value can say that nothing was sent (`because`), and code that writes a
/// request has to give it away. So a failure after the write cannot be reported as one before it,
/// and no request is written twice unless the first one was refused. The value cannot be copied.
#[derive(Debug)]
pub struct Untouched {
    /// The refusal of a request that was written. Boxed, since most calls have none.
    refused: Option<Box<Refusal>>,
    /// Addresses that could not be reached, with the causes. Usually empty.
    tried: Vec<String>,
}

impl Untouched {
    /// For a call that begins.
    pub(crate) fn at_the_start() -> Self {
        Self { refused: None, tried: Vec::new() }
    }

    /// For a request that the gateway has refused, so that it did nothing.
    pub(crate) fn after(refusal: Refusal) -> Self {
        Self { refused: Some(refusal.into()), tried: Vec::new() }
    }

    /// For another request that has to come first, such as a sign-in.
    pub(crate) fn for_another(&self) -> Self {
        Self { refused: self.refused.clone(), tried: Vec::new() }
    }

    /// Notes an address that could not be reached.
    pub(crate) fn tried(&mut self, cause: String) {
        self.tried.push(cause);
    }

    /// The error if no address could be reached. `retry_in`: when one that has tripped is probed.
    pub(crate) fn unreachable(&self, retry_in: Option<Duration>) -> CallError {
        self.error(Obstacle::Unreachable { causes: self.tried.join("; "), retry_in })
    }

    /// The error if `obstacle` keeps the request from being sent.
    pub(crate) fn because(&self, obstacle: impl Into<Obstacle>) -> CallError {
        let then = match obstacle.into() {
            // This error says itself what is known about the agent.
            Obstacle::Unprepared(error) => return *error,
            obstacle => obstacle,
        };
        if self.tried.is_empty() {
            return self.error(then);
        }
        self.error(Obstacle::Tried { causes: self.tried.join("; "), then: then.into() })
    }

    /// The same for a result.
    pub(crate) fn check<T>(&self, result: Result<T, Obstacle>) -> Result<T, CallError> {
        result.map_err(|obstacle| self.because(obstacle))
    }

    fn error(&self, obstacle: Obstacle) -> CallError {
        match &self.refused {
            Some(refusal) => CallError::AfterRefusal(refusal.clone(), Unsent(obstacle)),
            None => CallError::NotSent(Unsent(obstacle)),
        }
    }
}

/// The obstacle that kept a request from being sent. Only [`Untouched`] can create it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unsent(Obstacle);

impl Unsent {
    /// The obstacle itself.
    pub fn obstacle(&self) -> &Obstacle {
        &self.0
    }

    pub(super) fn into_obstacle(self) -> Obstacle {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        call::{Outcome, Stage, Wait},
        retcode::Retcode,
    };

    fn refusal() -> Refusal {
        let retcode = Retcode::refusal("000-003").expect("a refusal");
        Refusal { retcode, message: "no such Guid".into(), node: None, http_status: 200 }
    }

    #[test]
    fn what_was_refused_before_is_not_called_unsent() {
        let first = Untouched::at_the_start();
        assert_eq!(first.because(Obstacle::ShuttingDown).outcome(), Outcome::NotSent);
        let again = Untouched::after(refusal());
        for untouched in [&again, &again.for_another()] {
            let error = untouched.because(Obstacle::Deadline(Wait::Queue));
            assert_eq!(error.outcome(), Outcome::Refused);
            assert_eq!(error.last_refusal(), Some(&refusal()), "the cause is told too");
            assert_eq!(error.refusal(), None, "and it is not what the call failed for in the end");
        }
    }

    #[test]
    fn a_sign_in_that_may_have_been_carried_out_stays_unknown() {
        let sign_in = Obstacle::from(CallError::Deadline(Stage::SignIn));
        let error = Untouched::at_the_start().because(sign_in);
        assert_eq!(error.outcome(), Outcome::Unknown);
        let unsent = Obstacle::from(Untouched::at_the_start().because(Obstacle::ShuttingDown));
        assert!(matches!(unsent, Obstacle::ShuttingDown), "and what was not sent is not wrapped");
    }

    #[test]
    fn every_address_that_was_tried_is_named() {
        let mut untouched = Untouched::at_the_start();
        untouched.tried("one: refused".into());
        let late = untouched.because(Obstacle::Deadline(Wait::Connection)).to_string();
        assert!(late.starts_with("the deadline passed") && late.contains("one: refused"), "{late}");
        untouched.tried("two: unknown".into());
        let unreachable = untouched.unreachable(None).to_string();
        assert!(unreachable.contains("one: refused; two: unknown"), "{unreachable}");
    }
}
