//! The rejected passwords of one agent, as replicas share them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};

use crate::{
    call::Refusal,
    retcode::Retcode,
    tenant::{
        agents::{REJECTED_MAX, Rejection},
        password_digest::PasswordDigest,
    },
};

/// What is sealed: the newest rejections of an agent, oldest first.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct SharedRejections(Vec<SharedRejection>);

#[derive(Serialize, Deserialize)]
struct SharedRejection {
    /// By which replicas recognize the password.
    password_sha256: PasswordDigest,
    /// When the password may be tried again, since 1970. The value as a whole lasts as long as its newest
    /// part.
    until: Duration,
    /// "0" for a sign-in that was accepted without a Guid.
    retcode: String,
    message: String,
    node: Option<Box<str>>,
}

/// The retcode of an accepted request.
const ACCEPTED: &str = "0";
/// More than a rejection takes in plain text without its message and retcode, each of whose bytes may take six.
const ROOM: usize = 1024;

impl SharedRejections {
    /// Reads what [`to_plain`](Self::to_plain) writes; none if it is not that.
    pub(super) fn from_plain(plain: &[u8]) -> Self {
        serde_json::from_slice(plain).unwrap_or_default()
    }

    /// In plain text, to be sealed.
    pub(super) fn to_plain(&self) -> Zeroizing<Vec<u8>> {
        // With room for everything: a vector that grows leaves the digests behind.
        let texts = self.0.iter().map(|known| known.message.len() + known.retcode.len());
        let mut plain = Zeroizing::new(Vec::with_capacity(
            ROOM * (1 + self.0.len()) + 6 * texts.sum::<usize>(),
        ));
        // Serializing texts and numbers into memory cannot fail.
        let _written = serde_json::to_writer(&mut *plain, self);
        plain
    }

    /// Adds one. Those that have ended go, and the oldest if there are too many.
    pub(super) fn add(&mut self, password: &PasswordDigest, why: &Rejection, time: Duration) {
        let now = now();
        let kept =
            |known: &SharedRejection| known.until > now && known.password_sha256 != *password;
        self.0.retain(kept);
        if self.0.len() >= REJECTED_MAX {
            self.0.remove(0);
        }
        self.0.push(SharedRejection::of(password, why, now + time));
    }

    /// Why this password must not be tried now, if that is known.
    pub(super) fn find(self, password: &PasswordDigest) -> Option<Rejection> {
        let now = now();
        let mut live = self.0.into_iter().filter(|known| known.until > now);
        live.find(|known| known.password_sha256 == *password).map(SharedRejection::why)
    }
}

impl SharedRejection {
    fn of(password: &PasswordDigest, why: &Rejection, until: Duration) -> Self {
        let (retcode, message, node) = match why {
            Rejection::Refused(Refusal { retcode, message, node, .. }) => {
                (retcode.as_str(), message.as_str(), node.clone())
            }
            Rejection::WithoutGuid => (ACCEPTED, "", None),
        };
        Self {
            password_sha256: password.clone(),
            until,
            retcode: retcode.to_owned(),
            message: message.to_owned(),
            node,
        }
    }

    fn why(self) -> Rejection {
        let Self { retcode, message, node, .. } = self;
        match Retcode::refusal(&retcode) {
            Some(retcode) => {
                Rejection::Refused(Refusal { retcode, message, node, http_status: 200 })
            }
            None => Rejection::WithoutGuid,
        }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn digest(password: &str) -> PasswordDigest {
        PasswordDigest::of(&password.to_owned().into())
    }

    fn read(rejections: &SharedRejections, password: &str) -> Option<Rejection> {
        SharedRejections::from_plain(&rejections.to_plain()).find(&digest(password))
    }

    #[test]
    fn several_are_known_and_the_oldest_goes_where_there_are_too_many() {
        let mut rejections = SharedRejections::default();
        let passwords: Vec<_> =
            (0..=REJECTED_MAX).map(|number| format!("wrong {number}")).collect();
        for password in &passwords {
            rejections.add(&digest(password), &Rejection::WithoutGuid, HOUR);
        }
        let known = passwords.iter().filter(|password| read(&rejections, password).is_some());
        assert_eq!(known.collect::<Vec<_>>(), passwords[1..].iter().collect::<Vec<_>>());
        assert!(read(&rejections, "another").is_none());
    }

    #[test]
    fn one_that_comes_again_takes_no_second_place_and_one_that_has_ended_none() {
        let mut rejections = SharedRejections::default();
        rejections.add(&digest("ended"), &Rejection::WithoutGuid, Duration::ZERO);
        assert!(read(&rejections, "ended").is_none());
        for _ in 0..3 {
            rejections.add(&digest("wrong"), &Rejection::WithoutGuid, HOUR);
        }
        assert_eq!(rejections.0.len(), 1);
    }

    #[test]
    fn what_is_no_list_of_rejections_says_nothing() {
        for plain in ["", "{}", "[{}]", "canary"] {
            assert!(SharedRejections::from_plain(plain.as_bytes()).find(&digest("")).is_none());
        }
    }
}
