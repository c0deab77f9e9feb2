use std::process::ExitCode;

use serde_json::{Value, json};

use super::{EXIT_MISTAKE, Settings, fail, say};
use crate::{
    config::{Config, ConfigErrors, Place, Store},
    server,
};

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    settings: Settings,
    /// Print what was found as JSON, mistakes too.
    #[arg(long)]
    json: bool,
}

const WITHOUT_STORE: &str = "  sessions are kept in memory only: a stop signs agents out unless \
                             server.drain.sessions is \"leave\", and after a crash or kill -9 an \
                             agent's calls fail with ALREADY_EXISTS for up to two minutes unless it \
                             is signed in with force; give store.file, or store.urls for replicas";

/// `given` stands in front of the command's name.
pub(super) fn run(given: Settings, args: CheckArgs) -> ExitCode {
    let (mistakes, text) = match args.settings.or(given).load() {
        Err(errors) => (mistakes(&errors), errors.to_string()),
        Ok(config) => match server::check_store(&config) {
            Err(error) => (vec![mistake_of_store(&error)], error.to_string()),
            Ok(()) => return tell(&config, args.json),
        },
    };
    if !args.json {
        return fail(EXIT_MISTAKE, text);
    }
    say(format_args!("{:#}", json!({ "good": false, "mistakes": mistakes })));
    ExitCode::from(EXIT_MISTAKE)
}

/// Prints what a good configuration says.
fn tell(config: &Config, json: bool) -> ExitCode {
    if json {
        say(format_args!("{:#}", report(config)));
    } else {
        describe(config);
    }
    ExitCode::SUCCESS
}

/// The mistakes as `--json` has them. `line` is that of the file in `place`, if the mistake is in one line of a file.
pub(super) fn mistakes(errors: &ConfigErrors) -> Vec<Value> {
    let shown = errors.errors().iter().map(|error| {
        let line = match error.place {
            Place::File { line, .. } => line,
            Place::Environment(_) | Place::Flag(_) | Place::Nowhere => None,
        };
        json!({
            "place": error.place.to_string(),
            "line": line,
            "key": error.key,
            "problem": error.problem,
            "remedy": error.remedy,
        })
    });
    shown.collect()
}

/// This build of the program cannot do what `[store]` asks for.
fn mistake_of_store(error: &impl ToString) -> Value {
    let place = Place::Nowhere.to_string();
    json!({
        "place": place,
        "line": null,
        "key": "store.urls",
        "problem": error.to_string(),
        "remedy": "",
    })
}

/// A good configuration for programs.
fn report(config: &Config) -> Value {
    let listeners = config.listeners.iter().map(|(name, listener)| {
        let (address, tls) = (listener.address.to_string(), listener.tls.is_some());
        json!({ "name": name.to_string(), "address": address, "tls": tls })
    });
    let tenants = config.tenants.iter().map(|(id, tenant)| {
        let urls: Vec<_> = tenant.base_urls.iter().map(ToString::to_string).collect();
        json!({ "id": id.to_string(), "base_urls": urls })
    });
    let store = config.store.as_ref().map_or("memory", Store::kind);
    json!({
        "good": true,
        "mistakes": [],
        "warnings": config.warnings(),
        "listeners": listeners.collect::<Vec<_>>(),
        "admin": config.admin.address.map(|address| address.to_string()),
        "tenants": tenants.collect::<Vec<_>>(),
        "store": store,
    })
}

/// A good configuration for people.
fn describe(config: &Config) {
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
}
