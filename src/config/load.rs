//! From sources to a [`Config`].

use super::{
    Config, ConfigErrors, admin, gateway, listeners, log,
    reader::{Diagnostics, Section},
    retcodes, server,
    sources::Sources,
    store, tenant, traces, unknown_keys,
};

/// Reads and checks the whole configuration, and the files that it names; opens nothing else.
///
/// # Errors
///
/// [`ConfigErrors`] names every mistake, unless the file cannot be read as TOML at all, which
/// hides the others.
pub fn load(sources: &Sources) -> Result<Config, ConfigErrors> {
    let notes = Diagnostics::default();
    let (tree, place) = sources.gather(&notes).map_err(|error| ConfigErrors::new(vec![error]))?;
    let mut config = config(&Section::root(&notes, &tree, place));
    unknown_keys::note(&notes, &tree);
    config.warnings.extend(notes.warnings());
    notes.finish(config)
}

/// What is under `root`, with defaults in the place of what is wrong.
pub(super) fn config(root: &Section<'_>) -> Config {
    let listeners = listeners::listeners(&root.section("listeners"));
    let tenants = tenant::tenants(&root.section("tenants"));
    Config {
        admin: admin::admin(root, &listeners),
        listeners,
        server: server::server(&root.section("server"), &tenants, root.has("store")),
        log: log::log(&root.section("log")),
        host_requests: gateway::host_requests(&root.section("gateway")),
        tenants,
        store: store::store(root),
        traces: traces::traces(root),
        retcodes: retcodes::retcodes(&root.section("retcodes")),
        warnings: Vec::new(),
    }
}
