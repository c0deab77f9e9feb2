//! Builds a [`Config`] from its sources.

use std::collections::BTreeSet;

use super::{
    Config, ConfigErrors, admin, audit, callers,
    fingerprint::Fingerprint,
    gateway, issuers, listeners, log,
    reader::{Diagnostics, Section},
    retcodes, server,
    sources::Sources,
    store, tenant, traces, unknown_keys,
};

/// Reads and checks the configuration and the files that it names. It opens no ports or connections.
///
/// # Errors
///
/// [`ConfigErrors`] has all mistakes. If the file is not valid TOML, it has only that one.
pub fn load(sources: &Sources) -> Result<Config, ConfigErrors> {
    let notes = Diagnostics::default();
    let (tree, place) = sources.gather(&notes).map_err(|error| ConfigErrors::new(vec![error]))?;
    let mut config = config(&Section::root(&notes, &tree, place));
    unknown_keys::note(&notes, &tree);
    config.warnings.extend(notes.warnings());
    config.fingerprint = Fingerprint::of(&tree, &notes.files());
    notes.finish(config)
}

/// Reads everything under `root`. A wrong value is noted as a mistake, and its default is used.
pub(super) fn config(root: &Section<'_>) -> Config {
    let issuers = root.section("issuers");
    // A name is known although there are mistakes in its section, or each would be told twice.
    let names: BTreeSet<_> = issuers.named().map(|(name, _)| name).collect();
    let issuers = issuers::issuers(&issuers);
    let reflection = server::reflection(&root.section("server"));
    let listeners = listeners::listeners(&root.section("listeners"), &names, reflection);
    let is_shared = root.section("store").has("urls");
    let tenants = tenant::tenants(&root.section("tenants"), is_shared);
    let callers = callers::callers(root, &tenants, &names);
    callers::check(root, &listeners);
    Config {
        audit: audit::audit(&root.section("audit")),
        admin: admin::admin(root, &listeners),
        listeners,
        issuers,
        callers,
        server: server::server(&root.section("server"), &tenants, root.has("store")),
        log: log::log(&root.section("log")),
        host_limit: gateway::host_limit(&root.section("gateway")),
        tenants,
        store: store::store(root),
        traces: traces::traces(root),
        retcodes: retcodes::retcodes(&root.section("retcodes")),
        warnings: Vec::new(),
        fingerprint: Fingerprint::default(),
    }
}
