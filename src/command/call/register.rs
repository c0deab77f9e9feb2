use std::{path::PathBuf, time::Duration};

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Mistake,
    arguments::{Agent, span},
    secret, time,
};
use crate::rpc::proto::RegisterSessionRequest;

#[derive(Debug, Args)]
pub(super) struct RegisterSession {
    #[command(flatten)]
    agent: Agent,
    #[command(flatten)]
    from: GuidFrom,
    /// How long the Guid is valid, such as 2m, unless it is registered again [default: the tenant's
    /// registered_ttl].
    #[arg(long, value_name = "TIME", value_parser = time)]
    ttl: Option<Duration>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct GuidFrom {
    /// A file that holds only the Guid.
    #[arg(long, value_name = "FILE")]
    guid_file: Option<PathBuf>,
    /// Ask for the Guid; if standard input is a pipe, read its first line.
    #[arg(long)]
    guid_stdin: bool,
    /// There is none: the tenant's gateway has no Guids (auth_mode = "none").
    #[arg(long)]
    no_guid: bool,
}

impl RegisterSession {
    /// Reads the Guid from where the options say, or asks for it. `None`: there is none.
    pub(super) fn guid(&self) -> Result<Option<SecretString>, Mistake> {
        match &self.from.guid_file {
            _ if self.from.no_guid => Ok(None),
            Some(file) => secret::from_file("--guid-file", file).map(Some),
            None => {
                let question = format!("Guid of agent {}: ", self.agent.agent);
                secret::ask("--guid-stdin", &question).map(Some)
            }
        }
    }

    pub(super) fn request(
        self,
        tenant_id: String,
        guid: Option<&SecretString>,
    ) -> RegisterSessionRequest {
        RegisterSessionRequest {
            agent_id: self.agent.agent,
            guid: guid.map(|guid| guid.expose_secret().to_owned()).unwrap_or_default(),
            ttl: self.ttl.and_then(span),
            tenant_id,
        }
    }
}
