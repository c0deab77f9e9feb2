use std::process::ExitCode;

use super::{EXIT_MISTAKE, Settings, fail};
use crate::config::Store;

const WITHOUT_STORE: &str = "  sessions are kept in memory alone: a stop signs agents out unless \
                             server.drain.sessions says otherwise, and after a crash or kill -9 an \
                             agent's calls are ALREADY_EXISTS for up to two minutes unless it is \
                             signed in with force; give store.file, or store.urls for replicas";

#[expect(clippy::print_stdout, reason = "for the person who typed the command")]
pub(super) fn run(settings: &Settings) -> ExitCode {
    let config = match settings.load() {
        Ok(config) => config,
        Err(errors) => return fail(EXIT_MISTAKE, errors),
    };
    println!("The configuration is good.");
    for (name, listener) in &config.listeners {
        let tls = if listener.tls.is_some() { "with TLS" } else { "without TLS" };
        println!("  listener {name}: gRPC on {}, {tls}", listener.address);
    }
    match config.admin.address {
        Some(addr) => println!("  health and readiness on {addr}"),
        None => println!("  no admin port"),
    }
    for (id, tenant) in &config.tenants {
        let urls: Vec<_> = tenant.base_urls.iter().map(ToString::to_string).collect();
        println!("  tenant {id}: {}", urls.join(", "));
    }
    match &config.store {
        Some(Store::Redis(_)) => println!("  sessions are shared through a Redis"),
        Some(Store::File(file)) => println!("  sessions are kept in {}", file.path.display()),
        None => println!("{WITHOUT_STORE}"),
    }
    for warning in config.warnings() {
        println!("  warning: {warning}");
    }
    ExitCode::SUCCESS
}
