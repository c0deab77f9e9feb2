use std::io::Write as _;

use ccgateway_bridge::config::{self, Sources};

/// A configuration file. No peer's, but what a slip of the operator's may look like.
pub fn config(data: &[u8]) {
    // A file that a mutated path happens to name must not be one that never ends.
    if data.windows(5).any(|part| part == b"/dev/" || part == b"/proc") {
        return;
    }
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(data).expect("a temporary file can be written");
    let sources = Sources::default().with_file(file.path());

    match config::load(&sources) {
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
            let again = config::load(&sources).expect_err("the same mistakes");
            assert_eq!(again.to_string(), errors.to_string());
        }
    }
}
