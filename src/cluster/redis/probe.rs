use super::{Keys, Link, LinkError, Repeat, Script};

/// Checks whether Redis does all that the bridge needs for a tenant.
///
/// The script uses every command that writes or that decides whether to write, on keys of its own, and leaves
/// nothing there. It is
/// needed because a Redis that answers may still be out of memory, or refuse a single command to
/// the user.
#[derive(Debug)]
pub struct Probe {
    script: Script,
    keys: [String; 2],
    channel: String,
}

const PROBE: &str = "
local key = KEYS[1]
redis.call('SET', key, '1', 'PX', 1000)
redis.call('DEL', key)
redis.call('HSET', key, 'a', 'b')
redis.call('PEXPIRE', key, 1000)
redis.call('HLEN', key)
redis.call('HDEL', key, 'a')
redis.call('SADD', key, 'a')
redis.call('SCARD', key)
redis.call('SREM', key, 'a')
redis.call('ZADD', key, 1, 'a')
redis.call('ZREM', key, 'a')
redis.call('ZREMRANGEBYSCORE', key, '-inf', 1)
redis.call('XADD', key, 'MAXLEN', '~', 1, '*', 'a', 'b')
redis.call('RENAME', key, KEYS[2])
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[1], '')
return 1
";

impl Probe {
    /// A probe for the tenant with these keys.
    pub fn new(keys: &Keys) -> Self {
        let keys = ["probe", "probe-aside"].map(|name| keys.named(name));
        let [channel, _] = keys.clone();
        Self { script: Script::new(PROBE), keys, channel }
    }

    /// Runs the script. Waits for a connection also while Redis is known to be down.
    ///
    /// # Errors
    ///
    /// [`LinkError`] if Redis does not do all of it.
    pub async fn ask(&self, link: &Link) -> Result<(), LinkError> {
        let [key, aside] = &self.keys;
        let call = self.script.on(key.as_str()).key(aside.as_str()).arg(self.channel.as_str());
        link.script_anyway::<u8>(&call, Repeat::Once).await.map(drop)
    }
}
