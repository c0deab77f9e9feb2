use super::{Keys, Link, LinkError, Repeat, Script};

/// Checks whether Redis does all that the bridge needs for a tenant.
///
/// The script uses every command that writes or that decides whether to write, on a key of its own, and leaves nothing there. It is
/// needed because a Redis that answers may still be out of memory, or refuse a single command to
/// the user.
#[derive(Debug)]
pub struct Probe {
    script: Script,
    key: String,
    channel: String,
}

const PROBE: &str = "
local key = KEYS[1]
redis.call('SET', key, '1', 'PX', 1000)
redis.call('DEL', key)
redis.call('HSET', key, 'a', 'b')
redis.call('PEXPIRE', key, 1000)
redis.call('DEL', key)
redis.call('SADD', key, 'a')
redis.call('SISMEMBER', key, 'a')
redis.call('SREM', key, 'a')
redis.call('ZADD', key, 1, 'a')
redis.call('ZREM', key, 'a')
redis.call('ZREMRANGEBYSCORE', key, '-inf', 1)
redis.call('XADD', key, 'MAXLEN', '~', 1, '*', 'a', 'b')
redis.call('DEL', key)
redis.call('PUBLISH', ARGV[1], '')
return 1
";

impl Probe {
    /// A probe for the tenant with these keys.
    pub fn new(keys: &Keys) -> Self {
        let key = keys.named("probe");
        Self { script: Script::new(PROBE), channel: key.clone(), key }
    }

    /// Runs the script.
    ///
    /// # Errors
    ///
    /// [`LinkError`] if Redis does not do all of it.
    pub async fn ask(&self, link: &Link) -> Result<(), LinkError> {
        let call = self.script.on(self.key.as_str()).arg(self.channel.as_str());
        link.script::<u8>(&call, Repeat::Once).await.map(drop)
    }
}
