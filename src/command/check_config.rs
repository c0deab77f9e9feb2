use std::process::ExitCode;

use super::{EXIT_MISTAKE, Settings, fail, say};
use crate::server;

const WITHOUT_STORE: &str = "  sessions are kept in memory only: a stop signs agents out unless \
                             server.drain.sessions is \"leave\", and after a crash or kill -9 an \
                             agent's calls fail with ALREADY_EXISTS for up to two minutes unless it \
                             is signed in with force; give store.file, or store.urls for replicas";

pub(super) fn run(settings: &Settings) -> ExitCode {
    let config = match settings.load() {
        Ok(config) => config,
        Err(errors) => return fail(EXIT_MISTAKE, errors),
    };
    if let Err(error) = server::check_store(&config) {
        return fail(EXIT_MISTAKE, error);
    }
    say("The configuration is good.");
    for (name, listener) in &config.listeners {
        let tls = if listener.tls.is_some() { "with TLS" } else { "without TLS" };
        say(format_args!("  listener {name}: gRPC on {}, {tls}", listener.address));
    }
    match config.admin.address {
        Some(addr) => say(format_args!("  health and readiness on {addr}")),
        None => say("  no admin port"),
    }
    for (id, tenant) in &config.tenants {
        let urls: Vec<_> = tenant.base_urls.iter().map(ToString::to_string).collect();
        say(format_args!("  tenant {id}: {}", urls.join(", ")));
    }
    match &config.store {
        Some(store) => say(format_args!("  {store}")),
        None => say(WITHOUT_STORE),
    }
    for warning in config.warnings() {
        say(format_args!("  warning: {warning}"));
    }
    ExitCode::SUCCESS
}
