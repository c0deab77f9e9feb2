use std::sync::Arc;

use ::redis::{Cmd, FromRedisValue, ToRedisArgs, cmd};
use aws_lc_rs::digest;

use super::{Link, LinkError, Repeat, Request, Wanted, refusal::Cure};
use crate::{hex::hex, session::Scope};

/// A Lua script. Redis runs it as one atomic step.
#[derive(Clone, Debug)]
pub struct Script {
    source: Arc<str>,
    /// The SHA-1 digest by which Redis knows the script.
    digest: String,
    scope: Scope,
}

/// What all scripts begin with. `take` carries out a command on a key that only the bridge should write to. What
/// somebody else has put there, of another type, is set aside for an hour first. `look` only reads, and finds nothing
/// there. Other errors end the script.
///
/// `short` and `members` are for what is sent to the bridge: nobody else can make it read more than it writes. Of
/// a set with too many members, some are returned, others each time.
const PRELUDE: &str = "
local aside = 0
local function is_foreign(answer)
  return type(answer) == 'table' and answer.err and string.find(answer.err, 'WRONGTYPE', 1, true)
end
local function take(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if is_foreign(answer) then
    redis.call('RENAME', key, key .. '-set-aside')
    redis.call('PEXPIRE', key .. '-set-aside', 3600000)
    aside = aside + 1
  end
  return redis.call(command, key, ...)
end
local function look(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if is_foreign(answer) then return nil end
  return redis.call(command, key, ...)
end
local function short(value, most)
  return string.sub(value or '', 1, tonumber(most))
end
local function members(key, most)
  local count, few = look('SCARD', key) or 0, {}
  local all = count > tonumber(most) and look('SRANDMEMBER', key, most) or look('SMEMBERS', key) or {}
  for _, member in ipairs(all) do
    if #member < 16 then few[#few + 1] = member end
  end
  return few, all
end
";

/// A script with its keys and arguments.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    script: &'a Script,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Script {
    /// Makes a script from this source, which may use `take`, `look`, `short` and `members`.
    pub fn new(source: &str) -> Self {
        let source = [PRELUDE, source].concat();
        // Redis names scripts by SHA-1. Security does not depend on it.
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, source.as_bytes());
        Self { source: source.into(), digest: hex(hash.as_ref()), scope: Scope::Writes }
    }

    /// The same, for one that only reads.
    pub fn reading(source: &str) -> Self {
        Self { scope: Scope::Reads, ..Self::new(source) }
    }

    /// A call of the script. The key decides on which node of a cluster it runs.
    pub fn on(&self, key: impl Into<String>) -> Call<'_> {
        Call { script: self, keys: vec![key.into()], arguments: Vec::new() }
    }
}

impl Call<'_> {
    /// Adds a key, which has to share the slot of the first.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl ToRedisArgs) -> Self {
        self.arguments.extend(argument.to_redis_args());
        self
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(script).arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        command
    }
}

impl Link {
    /// Runs a script. Sends its source only if the server does not know it.
    ///
    /// # Errors
    ///
    /// As [`Link::command`].
    pub async fn script<T: FromRedisValue>(
        &self,
        call: &Call<'_>,
        repeat: Repeat,
    ) -> Result<T, LinkError> {
        if let Some(error) = self.outage() {
            return Err(error);
        }
        self.run(call, repeat, Wanted::ForRequest).await
    }

    /// The same, but while Redis is known to be down it waits for a connection: it is to find out whether Redis is back.
    pub(super) async fn script_anyway<T: FromRedisValue>(
        &self,
        call: &Call<'_>,
        repeat: Repeat,
    ) -> Result<T, LinkError> {
        self.run(call, repeat, Wanted::ForProbe).await
    }

    async fn run<T: FromRedisValue>(
        &self,
        call: &Call<'_>,
        repeat: Repeat,
        wanted: Wanted,
    ) -> Result<T, LinkError> {
        // Boxed, as in `request`. A server that does not know the script does not count as a
        // failure.
        let answer = Box::pin(async {
            let known = call.command("EVALSHA", &call.script.digest);
            let scope = call.script.scope;
            match self.repeated(&Request::Script(&known, scope), repeat, wanted).await {
                Err(LinkError::Refused(refusal)) if refusal.cure() == Cure::Source => {
                    let whole = call.command("EVAL", &call.script.source);
                    self.repeated(&Request::Script(&whole, scope), repeat, wanted).await
                }
                answer => answer,
            }
        })
        .await;
        self.note(&answer, repeat);
        answer
    }
}
