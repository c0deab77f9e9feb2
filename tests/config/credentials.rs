use ccgateway_bridge::{
    config::{self, Config, ConfigErrors},
    id::AgentId,
};
use secrecy::ExposeSecret;

use crate::support::{Folder, TENANT};

const CANARY: &str = "c4n4ry";

fn load(folder: &Folder, credentials: &str) -> Result<Config, ConfigErrors> {
    folder.write("secrets/acme.toml", credentials);
    let text = format!("{TENANT}tenants.acme.credentials_file = \"secrets/acme.toml\"\n");
    config::load(&folder.sources(text))
}

#[test]
fn credentials_are_found_beside_the_file_that_names_them() {
    let text = "[agents.1001]\npassword = \"c4n4ry\"\nphone_number = \"70001\"\nforce = true\n\
                [agents.1002]\npassword = \"\"\n";
    let config = load(&Folder::new(), text).expect("good credentials");
    let tenant = &config.tenants["acme"];
    let credentials = tenant.credentials.as_ref().expect("credentials");
    let agent = |id| &credentials.agents[&AgentId::parse(id, &tenant.agent_ids).unwrap()];
    assert_eq!(agent("1001").password.expose_secret(), CANARY);
    assert_eq!(agent("1001").phone_number, "70001");
    assert!(agent("1001").force);
    assert_eq!(agent("1002").password.expose_secret(), "");
    assert_eq!(agent("1002").phone_number, "");
    assert!(!agent("1002").force);
    assert!(!format!("{config:?}").contains(CANARY));
}

#[test]
fn a_file_without_agents_is_warned_of() {
    let config = load(&Folder::new(), "# nobody yet\n").expect("no mistake");
    let warning = config.warnings().join("\n");
    assert!(warning.contains("tenants.acme.credentials_file: "), "{warning}");
    assert!(warning.contains("has no [agents.<id>]"), "{warning}");
}

#[test]
fn mistakes_name_the_credentials_file_and_never_a_value() {
    let long = CANARY.repeat(6);
    for (text, expected) in [
        ("[agents.1001]\npassword = c4n4ry\n", "acme.toml:2  is not valid TOML"),
        ("[agents.1001]\npassword = \"c4n4ry\n", "acme.toml:2  is not valid TOML"),
        ("c4n4ry\n", "acme.toml:1  is not valid TOML"),
        ("agents.1001 = \"c4n4ry\"\n", "acme.toml:1  agents.1001: is text, not a section"),
        (
            "agents.1001.password = [\"c4n4ry\"]\n",
            "acme.toml:1  agents.1001.password: is a list, not text",
        ),
        (
            &format!("agents.1001.password = \"{long}\"\n"),
            "acme.toml:1  agents.1001.password: has 36 characters; give at most 32",
        ),
        (
            &format!("agents.1001 = {{ password = \"\", phone_number = \"{long}\" }}\n"),
            "acme.toml:1  agents.1001.phone_number: has 36 characters; give at most 24",
        ),
        (
            "agents.1001 = { password = \"\", force = \"c4n4ry\" }\n",
            "acme.toml:1  agents.1001.force: is text, not true or false",
        ),
        (
            "agents.1001 = { password = \"\", pasword = \"c4n4ry\" }\n",
            "acme.toml:1  agents.1001.pasword: is not a known key; did you mean agents.1001.password?",
        ),
        ("agents.1001.force = true\n", "acme.toml  agents.1001.password: is missing"),
        (
            "agents.100.password = \"c4n4ry\"\n",
            "acme.toml:1  agents.100: is not an agent of the tenant; the id must be from 101 to 59999",
        ),
        (
            "agents.bob.password = \"c4n4ry\"\n",
            "acme.toml:1  agents.bob: is not an agent of the tenant; the id must be decimal",
        ),
        ("agent = \"c4n4ry\"\n", "acme.toml:1  agent: is not a known key; did you mean agents?"),
    ] {
        let errors = load(&Folder::new(), text).expect_err(text);
        let told = errors.to_string();
        assert_eq!(errors.errors().len(), 1, "{told}");
        assert!(told.contains(&format!("/secrets/{expected}")), "{told}");
        assert!(!format!("{told}{errors:?}").contains(CANARY), "{told}");
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_read_is_warned_of() {
    use std::{fs, os::unix::fs::PermissionsExt};

    let folder = Folder::new();
    let path = folder.write("secrets/acme.toml", "[agents.1001]\npassword = \"x\"\n");
    for (mode, count) in [(0o600, 0), (0o440, 0), (0o620, 1), (0o604, 1)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let text = format!(
            "{TENANT}tenants.acme.credentials_file = \"secrets/acme.toml\"\n\
             listeners.default.address = \"[::1]:1\"\n"
        );
        let warnings = config::load(&folder.sources(text)).expect("good").warnings();
        assert_eq!(warnings.len(), count, "{mode:o} {warnings:#?}");
    }
}
