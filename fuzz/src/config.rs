use std::io::Write as _;

use ccgateway_bridge::config::{self, Sources};

const SHORTEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/config/shortest.toml");

/// A configuration file. No peer's, but what a slip of the operator's may look like: it is right, and each tenant has
/// addresses and agents, or each of its mistakes says what would be right, the same ones each time.
pub fn config(data: &[u8]) {
    // A file that a mutated path happens to name must not be one that never ends.
    if data.windows(5).any(|part| part == b"/dev/" || part == b"/proc") {
        return;
    }
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(data).expect("a temporary file can be written");
    check(&Sources::default().with_file(file.path()));
}

/// Variables of the environment, a line each, for a configuration that would be right without them. The same holds.
pub fn environment(data: &[u8]) {
    if data.windows(5).any(|part| part == b"/dev/" || part == b"/proc") {
        return;
    }
    let lines = data.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
    let variables = lines.filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    check(&Sources::from_environment(variables).with_file(SHORTEST));
}

fn check(sources: &Sources) {
    match config::load(sources) {
        Ok(config) => {
            assert!(!config.tenants.is_empty());
            for (id, tenant) in &config.tenants {
                assert!(!tenant.base_urls.is_empty(), "{id:?}");
                assert!(!tenant.agent_ids.is_empty(), "{id:?}");
                assert!(tenant.base_urls.iter().all(|url| url.authority().is_some()), "{id:?}");
            }
        }
        Err(errors) => {
            assert!(!errors.errors().is_empty());
            for error in errors.errors() {
                assert!(!error.problem.is_empty() && !error.remedy.is_empty(), "{error:?}");
            }
            let again = config::load(sources).expect_err("the same mistakes");
            assert_eq!(again.to_string(), errors.to_string());
        }
    }
}
