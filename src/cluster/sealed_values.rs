//! Passwords and rejections that replicas share, sealed, in Redis.

use std::time::Duration;

use ::redis::cmd;
use futures_util::future::BoxFuture;
use tracing::debug;

use super::redis::{Keys, Link, LinkError, LinkState, Place, Repeat, Script};
use crate::{
    id::{AgentId, TenantId},
    session::{SEALED_MAX, SealedKind, SealedValueStore},
};

/// The sealed values of a tenant's agents, each under a key with a time to live.
pub(super) struct RedisSealedValues {
    tenant: TenantId,
    link: Link,
    keys: Keys,
    put_with_session: Script,
}

/// Stores credentials if the agent has a session that the bridge made: the script that ends it has deleted
/// them otherwise, and would not do so again.
const PUT_WITH_SESSION: &str = "
if (look('SISMEMBER', KEYS[2], ARGV[3]) or 0) == 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
";

impl RedisSealedValues {
    pub(super) fn new(tenant: TenantId, link: Link, keys: Keys) -> Self {
        Self { tenant, link, keys, put_with_session: Script::new(PUT_WITH_SESSION) }
    }

    fn key(&self, sealed_kind: SealedKind, agent: AgentId) -> String {
        self.keys.of(sealed_kind.name(), agent)
    }

    /// Redis' answer. `None` on failure, and at once if Redis is known to be down.
    async fn asked<T>(&self, question: impl Future<Output = Result<T, LinkError>>) -> Option<T> {
        if matches!(self.link.state(), LinkState::Down(_)) {
            return None;
        }
        let unavailable = |error: &LinkError| {
            debug!(ccgw.tenant.id = %self.tenant, %error, "shared passwords and rejections cannot be read or written");
        };
        question.await.inspect_err(unavailable).ok()
    }
}

impl SealedValueStore for RedisSealedValues {
    fn put(
        &self,
        sealed_kind: SealedKind,
        agent: AgentId,
        sealed: Vec<u8>,
        time: Duration,
    ) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let key = self.key(sealed_kind, agent);
            if sealed_kind == SealedKind::Credentials {
                let put = self.put_with_session.on(key).key(self.keys.kept());
                let put = put.arg(sealed).arg(millis).arg(agent.to_string());
                self.asked(self.link.script::<u8>(&put, Repeat::Once)).await;
                return;
            }
            let mut set = cmd("SET");
            set.arg(key).arg(sealed).arg("PX").arg(millis);
            self.asked(self.link.command::<()>(&set, Repeat::Once)).await;
        })
    }

    fn get(&self, sealed_kind: SealedKind, agent: AgentId) -> BoxFuture<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            let key = [self.key(sealed_kind, agent)];
            let read = self.link.read(&key, Place::Whole, SEALED_MAX);
            self.asked(read).await?.pop().flatten()
        })
    }

    fn remove(&self, sealed_kind: SealedKind, agent: AgentId) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut delete = cmd("DEL");
            delete.arg(self.key(sealed_kind, agent));
            self.asked(self.link.command::<u64>(&delete, Repeat::Once)).await;
        })
    }
}
