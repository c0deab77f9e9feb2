use std::{
    collections::{HashMap, VecDeque},
    time::SystemTime,
};

use super::VerifiedToken;

/// A bounded number of tokens that were good, by their SHA-256.
#[derive(Default)]
pub(super) struct VerifiedTokens {
    tokens: HashMap<[u8; 32], VerifiedToken>,
    /// In the order in which they came.
    order: VecDeque<[u8; 32]>,
}

/// How many are known at most. Whoever has more is verified again.
const MAX: usize = 4096;

impl VerifiedTokens {
    pub(super) fn get(&self, digest: &[u8; 32], now: SystemTime) -> Option<VerifiedToken> {
        self.tokens.get(digest).filter(|known| known.until > now && !known.key.is_made()).cloned()
    }

    pub(super) fn put(&mut self, digest: [u8; 32], token: VerifiedToken) {
        if self.tokens.insert(digest, token).is_none() {
            self.order.push_back(digest);
        }
        if self.order.len() > MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.tokens.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::access::{Principal, tokens::Withdrawal};

    fn digest(number: usize) -> [u8; 32] {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        digest
    }

    #[test]
    fn a_bounded_number_of_tokens_is_known_until_they_expire() {
        let (mut tokens, now) = (VerifiedTokens::default(), SystemTime::now());
        let (principal, until) = (Principal::Anonymous, now + Duration::from_secs(1));
        let token = VerifiedToken { principal, until, key: Withdrawal::default() };
        for number in 0..2 * MAX {
            tokens.put(digest(number), token.clone());
            tokens.put(digest(number), token.clone());
            assert_eq!(tokens.get(&digest(number), now), Some(token.clone()));
        }
        assert_eq!((tokens.tokens.len(), tokens.order.len()), (MAX, MAX));
        assert_eq!(tokens.get(&digest(0), now), None);
        assert_eq!(tokens.get(&digest(MAX), now), Some(token.clone()));
        assert_eq!(tokens.get(&digest(MAX), token.until), None);
        token.key.make();
        assert_eq!(tokens.get(&digest(MAX), now), None, "its key is withdrawn");
    }
}
