use std::{fmt, path::PathBuf};

use super::reader::join;

/// A setting of a configuration: a key with a value, or a file that a key names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    /// The parts of the key.
    pub(super) path: Vec<String>,
    pub(super) file: Option<PathBuf>,
}

/// What a change of a setting takes, and what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A restart.
    Restart,
    /// Who callers are and what they may do.
    Callers,
    /// What a listener takes from its callers, as long as its address stays.
    Listener,
    /// Another version of a tenant that goes on.
    Tenant,
    /// The same, with other connections to its gateway.
    TenantConnections,
    /// How new connections to the store's server are opened.
    StoreAccess,
    /// The keys that encrypt what is stored.
    StoreKeys,
    /// A restart, since it is about another store.
    Store,
}

/// What keys are about; the first line that fits holds. `*` stands for any name.
const EFFECTS: [(&str, Effect); 27] = [
    ("callers", Effect::Callers),
    ("issuers", Effect::Callers),
    // The listeners that do not say go by it.
    ("server.reflection", Effect::Callers),
    ("listeners.*.tls", Effect::Listener),
    ("listeners.*.issuers", Effect::Listener),
    ("listeners.*.allow_anonymous", Effect::Listener),
    ("listeners.*.reflection", Effect::Listener),
    ("tenants.*.callers", Effect::Callers),
    // `Tenant::with_lasting_of` keeps these three.
    ("tenants.*.keep.enabled", Effect::Restart),
    ("tenants.*.limits.sessions", Effect::Restart),
    ("tenants.*.events", Effect::Restart),
    ("tenants.*.base_urls", Effect::TenantConnections),
    ("tenants.*.tls", Effect::TenantConnections),
    ("tenants.*.timeouts", Effect::TenantConnections),
    ("tenants.*.breaker", Effect::TenantConnections),
    ("tenants.*.auth_mode", Effect::TenantConnections),
    // Tripped addresses are probed with what the edition has.
    ("tenants.*.edition", Effect::TenantConnections),
    ("tenants.*", Effect::Tenant),
    ("store.username", Effect::StoreAccess),
    ("store.password_file", Effect::StoreAccess),
    ("store.sentinel.username", Effect::StoreAccess),
    ("store.sentinel.password_file", Effect::StoreAccess),
    ("store.tls", Effect::StoreAccess),
    ("store.encryption_key_files", Effect::StoreKeys),
    ("store.when_away", Effect::Restart),
    ("store.lease", Effect::Restart),
    ("store", Effect::Store),
];

impl Setting {
    /// What a change of it takes.
    pub fn effect(&self) -> Effect {
        let fits = |(key, _): &&(&str, Effect)| {
            let mut path = self.path.iter();
            key.split('.').all(|part| path.next().is_some_and(|own| part == "*" || own == part))
        };
        EFFECTS.iter().find(fits).map_or(Effect::Restart, |(_, effect)| *effect)
    }

    /// Its key, as it is written.
    pub fn key(&self) -> String {
        self.path.iter().fold(String::new(), |path, name| join(&path, name))
    }

    /// The name of the section that it is in, if that is one of `kind`, such as `tenants`.
    pub fn named(&self, kind: &str) -> Option<&str> {
        match self.path.as_slice() {
            [first, name, _, ..] if first == kind => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key())?;
        match &self.file {
            Some(file) => write!(f, " ({})", file.display()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_change_takes_is_known_by_the_key() {
        for (path, expected) in [
            (&["callers", "ivr", "rights"][..], Effect::Callers),
            (&["issuers", "k8s", "jwks_file"], Effect::Callers),
            (&["listeners", "default", "tls", "certificate_file"], Effect::Listener),
            (&["listeners", "default", "allow_anonymous"], Effect::Listener),
            (&["listeners", "default", "reflection"], Effect::Listener),
            (&["server", "reflection"], Effect::Callers),
            (&["server", "reload_interval"], Effect::Restart),
            (&["listeners", "default", "address"], Effect::Restart),
            (&["listeners", "default", "http2", "keepalive_interval"], Effect::Restart),
            (&["tenants", "acme", "callers"], Effect::Callers),
            (&["tenants", "acme.eu", "tls", "ca_file"], Effect::TenantConnections),
            (&["tenants", "acme", "base_urls"], Effect::TenantConnections),
            (&["tenants", "acme", "edition"], Effect::TenantConnections),
            (&["tenants", "acme.eu", "keep", "enabled"], Effect::Restart),
            (&["tenants", "acme", "keep", "recovery"], Effect::Tenant),
            (&["tenants", "acme", "limits", "sessions"], Effect::Restart),
            (&["tenants", "acme", "limits", "calls"], Effect::Tenant),
            (&["tenants", "acme", "events", "kept"], Effect::Restart),
            (&["store", "encryption_key_files"], Effect::StoreKeys),
            (&["store", "sentinel", "password_file"], Effect::StoreAccess),
            (&["store", "sentinel", "master"], Effect::Store),
            (&["store", "urls"], Effect::Store),
            (&["store", "lease"], Effect::Restart),
            (&["log", "filter"], Effect::Restart),
        ] {
            let path = path.iter().map(|&part| part.to_owned()).collect();
            let setting = Setting { path, file: None };
            assert_eq!(setting.effect(), expected, "{setting}");
        }
    }

    #[test]
    fn a_setting_is_shown_as_it_is_written_with_its_file() {
        let path = ["tenants", "acme.eu", "tls", "ca_file"].map(str::to_owned).to_vec();
        let setting = Setting { path, file: Some("/etc/ca.pem".into()) };
        assert_eq!(setting.to_string(), "tenants.\"acme.eu\".tls.ca_file (/etc/ca.pem)");
        assert_eq!((setting.named("tenants"), setting.named("listeners")), (Some("acme.eu"), None));
    }
}
