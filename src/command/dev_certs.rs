//! The `dev-certs` command: makes what it takes to try out how callers show who they are, for somebody
//! without certificates and without an issuer of tokens.

mod certificates;
mod configuration;
mod files;
mod next_steps;
mod token;

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::pki_types::ServerName;

use self::{certificates::Certificates, files::DevFile, next_steps::NextSteps, token::SignedToken};
use super::{EXIT_FAILED, fail, say};

#[derive(Debug, clap::Args)]
pub(super) struct DevCerts {
    /// The folder to write into; it is made if it is not there.
    #[arg(value_name = "FOLDER", default_value = "dev-certs")]
    folder: PathBuf,
    /// A name or IP address of the bridge, besides localhost, 127.0.0.1 and ::1. Can be given several
    /// times.
    #[arg(long = "host", value_name = "NAME", value_parser = host)]
    hosts: Vec<String>,
    /// The SPIFFE id in the caller's certificate.
    #[arg(long, value_name = "URI", default_value = "spiffe://dev/caller", value_parser = spiffe_id)]
    spiffe_id: String,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

type Failure = Box<dyn Error>;

const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Half of what the bridge takes as the name of a caller.
const SPIFFE_ID_MAX: usize = 255;

pub(super) fn run(wanted: &DevCerts) -> ExitCode {
    match wanted.make() {
        Ok(files) => {
            say(NextSteps { folder: &wanted.folder, files: &files });
            ExitCode::SUCCESS
        }
        Err(error) => fail(EXIT_FAILED, format_args!("dev-certs: {error}")),
    }
}

impl DevCerts {
    fn make(&self) -> Result<Vec<DevFile>, Failure> {
        let files = self.files()?;
        files::write(&self.folder, &files, self.force)?;
        Ok(files)
    }

    fn files(&self) -> Result<Vec<DevFile>, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let hosts: Vec<_> =
            LOCAL_HOSTS.map(str::to_owned).into_iter().chain(self.hosts.clone()).collect();
        let made = Certificates::make(&hosts, &self.spiffe_id, now)?;
        let SignedToken { key_set, token } = SignedToken::make(now)?;
        let configuration = configuration::text(&self.folder, &self.spiffe_id)?;
        let server = format!("the bridge's certificate, for {}", hosts.join(", "));
        let client = format!("a caller's certificate, for {}", self.spiffe_id);
        let about_token =
            format!("a caller's token, of {} for \"{}\"", token::ISSUER, token::SUBJECT);
        Ok(vec![
            DevFile::public("ca.pem", made.ca, "the CA of both certificates; nobody has its key"),
            DevFile::public("server.pem", made.server.certificate, server),
            DevFile::secret("server.key", made.server.key, "its private key"),
            DevFile::public("client.pem", made.client.certificate, client),
            DevFile::secret("client.key", made.client.key, "its private key"),
            DevFile::public("jwks.json", key_set, "the key that the token is verified with"),
            DevFile::secret("token.jwt", token, about_token),
            DevFile::public(
                configuration::FILE,
                configuration,
                "sections for a bridge that accepts all of these",
            ),
        ])
    }
}

/// The path of a file in the folder.
fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

fn host(text: &str) -> Result<String, &'static str> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("give a DNS name or an IP address, such as bridge.example or 10.0.0.1"),
    }
}

fn spiffe_id(text: &str) -> Result<String, String> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(is_good);
    let id = text.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/'));
    let is_id = id.is_some_and(|(domain, path)| is_part(domain) && path.split('/').all(is_part));
    if is_id && text.len() <= SPIFFE_ID_MAX {
        return Ok(text.to_owned());
    }
    Err(format!(
        "give spiffe://DOMAIN/PATH of at most {SPIFFE_ID_MAX} letters, digits, \"-\", \"_\", \".\" and \
         \"/\", such as spiffe://dev/caller"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_be_of_no_use_are_refused() {
        for good in ["bridge", "bridge.example", "10.0.0.1", "fe80::1"] {
            assert_eq!(host(good).as_deref(), Ok(good));
        }
        for bad in ["", "bridge:50051", "[::1]", "*.example", "a b", "http://bridge"] {
            assert!(host(bad).is_err(), "{bad}");
        }
        let longest = format!("spiffe://dev/{}", "x".repeat(SPIFFE_ID_MAX - 13));
        for good in ["spiffe://dev/caller", "spiffe://prod.example/ns/a-b/sa/c_d", &longest] {
            assert_eq!(spiffe_id(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "spiffe://",
            "spiffe://dev",
            "spiffe://dev/",
            "spiffe:///caller",
            "spiffe://dev//caller",
            "spiffe://dev/../caller",
            "spiffe://dev/*",
            "spiffe://dev/\"",
            "spiffe://dev/é",
            "https://dev/caller",
            &(longest + "x"),
        ] {
            assert!(spiffe_id(bad).is_err(), "{bad}");
        }
    }
}
