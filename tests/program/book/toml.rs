//! Blocks of TOML, as the program reads them.

use std::path::Path;

use ccgateway_test_support::run;
use tempfile::TempDir;
use toml::{Table, Value};

use super::files;
use crate::support::bridge;

/// What `check-config` has against a configuration, if anything. What a part of one leaves out that
/// has to be there is added, and the files that it names are made.
pub(super) async fn mistake(text: &str) -> Option<String> {
    let folder = tempfile::tempdir().expect("a folder");
    match toml::from_str::<Table>(text) {
        Ok(tree) => {
            let text = files::make(&folder, &tree, text);
            let variables: Vec<_> = tenants_without_address(&tree)
                .map(|tenant| format!("CCGW__TENANTS__{}__BASE_URLS", tenant.to_uppercase()))
                .collect();
            check(&folder, &text, &variables).await
        }
        Err(error) => Some(error.to_string()),
    }
}

/// The same of a credentials file.
pub(super) async fn mistake_of_credentials(text: &str) -> Option<String> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("credentials.toml"), text).expect("written");
    let config = "[tenants.acme]\nbase_urls = \"https://gateway.example\"\n\
                  credentials_file = \"credentials.toml\"\n";
    check(&folder, config, &[]).await
}

async fn check(folder: &TempDir, text: &str, variables: &[String]) -> Option<String> {
    let file = folder.path().join("bridge.toml");
    std::fs::write(&file, text).expect("written");
    let mut command = bridge();
    command.args([Path::new("check-config"), Path::new("--config"), &file]);
    command.envs(variables.iter().map(|variable| (variable, "https://gateway.example")));
    let (code, printed) = run(command).await;
    (code != Some(0)).then_some(printed)
}

fn tenants_without_address(tree: &Table) -> impl Iterator<Item = &str> {
    let tenants = tree.get("tenants").and_then(Value::as_table);
    let none = tenants.is_none_or(Table::is_empty).then_some("acme");
    let without = tenants
        .into_iter()
        .flatten()
        .filter_map(|(name, tenant)| tenant.get("base_urls").is_none().then_some(name.as_str()));
    without.chain(none)
}

#[tokio::test]
async fn a_part_of_a_configuration_is_completed_and_its_mistakes_are_found() {
    for good in [
        "log.filter = \"debug\"",
        "[tenants.acme.tls]\nca_file = \"a/ca.pem\"\nclient_certificate_file = \"/etc/c.pem\"\n\
         client_key_file = \"/etc/c.key\"",
        "[store]\nfile = \"/var/lib/x/sessions.redb\"\nencryption_key_files = [\"a.key\", \"b.key\"]",
        "[tenants.one]\nbase_urls = \"https://a.example\"\ncredentials_file = \"c.toml\"\n\
         [tenants.two]\nlimits.calls = 100",
        "[store]\nurls = [\"rediss://redis.example:6379\"]\npassword_file = \"p\"\n\
         encryption_key_files = [\"k\"]",
        "[traces]\nendpoint = \"https://collector.example:4317\"\nheaders_file = \"h\"",
    ] {
        assert_eq!(mistake(good).await, None, "{good}");
    }
    for (bad, expected) in [
        ("log.filtre = \"debug\"", "log.filtre"),
        ("log.filter = ", "TOML"),
        ("[tenants.acme.limits]\ncalls = 0", "calls"),
    ] {
        let found = mistake(bad).await.unwrap_or_else(|| panic!("{bad} is taken"));
        assert!(found.contains(expected), "{found}");
    }
    assert_eq!(mistake_of_credentials("[agents.1001]\npassword = \"x\"").await, None);
    assert!(mistake_of_credentials("[agents.1001]\npasswort = \"x\"").await.is_some());
}
