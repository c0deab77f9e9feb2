use std::process::ExitCode;

use super::{EXIT_MISTAKE, Settings, fail};

#[expect(clippy::print_stdout, reason = "for the person who typed the command")]
pub(super) fn run(settings: &Settings) -> ExitCode {
    let config = match settings.load() {
        Ok(config) => config,
        Err(errors) => return fail(EXIT_MISTAKE, errors),
    };
    println!("The configuration is good.");
    println!(
        "  gRPC on {}, {}",
        config.server.listen,
        match config.server.tls {
            Some(_) => "with TLS",
            None => "without TLS",
        }
    );
    match config.server.admin_listen {
        Some(addr) => println!("  health and readiness on {addr}"),
        None => println!("  no admin port"),
    }
    for (id, tenant) in &config.tenants {
        let urls: Vec<_> = tenant.base_urls.iter().map(ToString::to_string).collect();
        println!("  tenant {id}: {}", urls.join(", "));
    }
    for warning in config.warnings() {
        println!("  warning: {warning}");
    }
    ExitCode::SUCCESS
}
