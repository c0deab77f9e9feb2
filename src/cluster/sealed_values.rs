//! Passwords, rejections and lost sign-outs that replicas share, sealed, in Redis.

use std::{sync::Arc, time::Duration};

use ::redis::cmd;
use futures_util::future::BoxFuture;
use tracing::debug;

use super::{
    redis::{Keys, Link, LinkError, LinkState, Place, Repeat},
    seals::Seals,
    shared_passwords::SharedPasswords,
};
use crate::{
    id::AgentId,
    session::{Doubt, Owner, SEALED_MAX, SealedKind, SealedValueStore, StoreError, StoreFuture},
    time::millis,
};

/// The sealed values of a tenant's agents, each under a key with a time to live.
pub(super) struct RedisSealedValues {
    link: Link,
    keys: Keys,
    seals: Seals,
    passwords: Arc<SharedPasswords>,
}

impl RedisSealedValues {
    pub(super) fn new(
        link: Link,
        keys: Keys,
        seals: Seals,
        passwords: Arc<SharedPasswords>,
    ) -> Self {
        Self { link, keys, seals, passwords }
    }

    fn key(&self, sealed_kind: SealedKind, agent: AgentId) -> String {
        self.keys.of(sealed_kind.name(), agent)
    }

    /// Redis' answer. Fails at once if Redis is known to be down.
    async fn asked<T>(
        &self,
        question: impl Future<Output = Result<T, LinkError>>,
    ) -> Result<T, LinkError> {
        if let LinkState::Down(error) = self.link.state_for_keys() {
            return Err(error);
        }
        let unavailable = |error: &LinkError| {
            debug!(ccgw.tenant.id = %self.seals.tenant(), %error, "what replicas share beside sessions cannot be read or written");
        };
        question.await.inspect_err(unavailable)
    }
}

impl SealedValueStore for RedisSealedValues {
    fn put(
        &self,
        sealed_kind: SealedKind,
        Owner { agent, session }: Owner,
        sealed: Vec<u8>,
        time: Duration,
    ) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if sealed_kind == SealedKind::Credentials {
                let Some(session) = session else { return };
                self.passwords.remember(agent, session, sealed, time);
                // Not written: Redis may have refused the session, and take it later.
                if self.asked(self.passwords.write(agent)).await != Ok(true) {
                    self.passwords.write_later();
                }
                return;
            }
            let mut set = cmd("SET");
            set.arg(self.key(sealed_kind, agent)).arg(sealed).arg("PX").arg(millis(time));
            let _unwritten = self.asked(self.link.command::<()>(&set, Repeat::Once)).await;
        })
    }

    fn get(&self, sealed_kind: SealedKind, agent: AgentId) -> StoreFuture<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            let key = [self.key(sealed_kind, agent)];
            let read = self.asked(self.link.read(&key, Place::Whole, SEALED_MAX)).await;
            read.map(|mut values| values.pop().flatten()).map_err(StoreError::from)
        })
    }

    fn remove(&self, sealed_kind: SealedKind, agent: AgentId) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if sealed_kind == SealedKind::Credentials {
                self.passwords.forget(agent);
            }
            let mut delete = cmd("DEL");
            delete.arg(self.key(sealed_kind, agent));
            let _unremoved = self.asked(self.link.command::<u64>(&delete, Repeat::Once)).await;
        })
    }

    fn disbelieve(&self) {
        self.seals.doubt(Doubt::PasswordSeal);
    }
}
