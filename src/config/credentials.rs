//! The credentials file of a tenant. No error here quotes a value from it, since that may be a
//! password.

use std::{collections::HashMap, ops::RangeInclusive, path::Path, sync::Arc};

use secrecy::{ExposeSecret, SecretString};

use super::{
    error::{Place, Problem},
    files,
    reader::{Diagnostics, Section},
    unknown_keys, value,
};
use crate::id::AgentId;

/// What the bridge needs to sign agents in by itself.
#[derive(Debug, Default)]
pub struct Credentials {
    /// Each agent's credential.
    pub agents: HashMap<AgentId, Credential>,
}

/// What the bridge needs to sign one agent in.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The agent's CTI password, up to 32 characters (`cec_07_1202`).
    pub password: SecretString,
    /// The agent's phone number, up to 24 characters (`cec_07_1202`); may be empty.
    pub phone_number: String,
    /// Whether to take the agent over if it is signed in elsewhere.
    pub force: bool,
}

const REMEDY: &str = "give the path of a TOML file with [agents.<id>] sections";
/// The largest credentials file, in bytes; 100 000 agents need about half of it.
const SIZE_MAX: u64 = 16 * 1024 * 1024;
/// `cec_07_1202`.
const PASSWORD_MAX: usize = 32;
/// `cec_07_1202`.
const PHONE_NUMBER_MAX: usize = 24;

/// Reads the file that the tenant's `credentials_file` names; `None` if the key is absent or the file
/// is wrong. Mistakes in the file are reported together with the others.
pub(super) fn read(tenant: &Section<'_>, agent_ids: &RangeInclusive<u32>) -> Option<Credentials> {
    let path = tenant.path("credentials_file")?;
    let text = tenant.read("credentials_file", |_| content(tenant, &path))?;
    let name: Arc<str> = path.to_string_lossy().into();
    let table = value::parse(&name, text.expose_secret())
        .map_err(|error| tenant.notes().push(error))
        .ok()?;
    let notes = Diagnostics::default();
    let place = Place::File { name, line: None };
    let agents = agents(&Section::root(&notes, &table, place), agent_ids);
    unknown_keys::note(&notes, &table);
    match notes.finish(agents) {
        Ok(agents) => {
            if agents.is_empty() {
                tenant.notes().warn(format!(
                    "{}.credentials_file: {} has no [agents.<id>], so the bridge signs nobody in by itself; give \
                     each agent its password, or leave the key out",
                    tenant.key(),
                    path.display()
                ));
            }
            Some(Credentials { agents })
        }
        Err(errors) => {
            let errors = errors.errors().iter().cloned();
            errors.for_each(|error| tenant.notes().push(error));
            None
        }
    }
}

fn content(tenant: &Section<'_>, path: &Path) -> Result<SecretString, Problem> {
    let (bytes, metadata) =
        files::read(path, SIZE_MAX).map_err(|error| files::unreadable(path, &error, REMEDY))?;
    files::warn_of_readers(tenant, "credentials_file", path, &metadata);
    std::str::from_utf8(&bytes)
        .map(SecretString::from)
        .map_err(|_| Problem::new("names a file that is not UTF-8 text", REMEDY))
}

fn agents(root: &Section<'_>, ids: &RangeInclusive<u32>) -> HashMap<AgentId, Credential> {
    let mut agents = HashMap::new();
    for (name, section) in root.section("agents").named() {
        let credential = credential(&section);
        match AgentId::parse(name, ids) {
            Ok(id) => drop(agents.insert(id, credential)),
            Err(error) => {
                section.error(Problem::new(
                    "is not an agent of the tenant",
                    format!("the id {error}"),
                ));
            }
        }
    }
    agents
}

fn credential(section: &Section<'_>) -> Credential {
    let password = bounded(section, "password", PASSWORD_MAX);
    section.missing("password", "give the agent's password; it may be \"\"");
    let phone_number = bounded(section, "phone_number", PHONE_NUMBER_MAX);
    Credential {
        password: SecretString::from(password),
        phone_number: phone_number.to_owned(),
        force: section.truth("force", false),
    }
}

fn bounded<'a>(section: &Section<'a>, key: &'static str, max: usize) -> &'a str {
    let text = section.text(key).unwrap_or_default();
    let length = text.chars().count();
    if length > max {
        let problem = format!("has {length} characters");
        let wrong = Problem::new(problem, format!("give at most {max}"));
        section.contradiction(&[key], wrong);
    }
    text
}
