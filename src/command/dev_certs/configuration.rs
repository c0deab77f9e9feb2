use std::path::{Path, absolute};

use super::{
    Failure,
    token::{AUDIENCE, ISSUER, SUBJECT},
};

/// The file with the sections.
pub(super) const FILE: &str = "bridge-dev.toml";

/// The sections of a configuration that have a bridge take the certificates and the token. Their paths are
/// absolute, so that they can be added to a file in any folder.
pub(super) fn text(folder: &Path, spiffe_id: &str) -> Result<String, Failure> {
    let folder = absolute(folder)
        .map_err(|error| format!("{}: {error}; give the path of a folder", folder.display()))?;
    let file = |name: &str| quoted(&folder.join(name));
    let (certificate, key, ca) = (file("server.pem")?, file("server.key")?, file("ca.pem")?);
    let keys = file("jwks.json")?;
    Ok(format!(
        r#"# Made by ccgateway-bridge dev-certs, for trying out how callers show who they are.
# Add it to a configuration that has a tenant.

[listeners.default.tls]
certificate_file = {certificate}
key_file = {key}
client_ca_file = {ca}
client_certificates = "optional"  # who has no certificate may have a token

[issuers.dev]
issuer = "{ISSUER}"
audiences = ["{AUDIENCE}"]
algorithms = ["ES256"]
jwks_file = {keys}

[callers.dev]
principals = ["{spiffe_id}", "jwt:dev:{SUBJECT}"]
tenants = ["*"]
rights = ["*"]
"#
    ))
}

/// A path as a string of TOML, whose escapes include those of JSON.
fn quoted(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().ok_or_else(|| {
        format!(
            "{}: its name is not UTF-8, so no configuration can name it; give another folder",
            path.display()
        )
    })?;
    Ok(serde_json::to_string(text)?)
}
