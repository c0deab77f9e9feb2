use ::redis::{Cmd, FromRedisValue, ToRedisArgs, cmd};
use aws_lc_rs::digest;

use super::{Link, LinkError, Repeat, Request, refusal::Cure};
use crate::hex::hex;

/// A Lua script. Redis runs it as one atomic step.
#[derive(Clone, Debug)]
pub struct Script {
    source: &'static str,
    /// The SHA-1 digest by which Redis knows the script.
    digest: String,
}

/// A script with its keys and arguments.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    script: &'a Script,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Script {
    /// Makes a script from this source.
    pub fn new(source: &'static str) -> Self {
        // Redis names scripts by SHA-1. Security does not depend on it.
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, source.as_bytes());
        Self { source, digest: hex(hash.as_ref()) }
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
        // Boxed, as in `request`. A server that does not know the script does not count as a
        // failure.
        let answer = Box::pin(async {
            let known = call.command("EVALSHA", &call.script.digest);
            match self.repeated(&Request::Command(&known), repeat).await {
                Err(LinkError::Refused(refusal)) if refusal.cure() == Cure::Source => {
                    let whole = call.command("EVAL", call.script.source);
                    self.repeated(&Request::Command(&whole), repeat).await
                }
                answer => answer,
            }
        })
        .await;
        self.note(&answer, repeat);
        answer
    }
}
