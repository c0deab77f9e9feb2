use std::process::ExitCode;

use super::{EXIT_FAILED, EXIT_MISTAKE, Settings, block_on, fail, say};
use crate::{
    config::{Config, Tenant},
    doctor::{self, Finding, Level},
    id::TenantId,
};

#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// Check only this tenant.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
}

pub(super) fn run(settings: &Settings, args: &DoctorArgs) -> ExitCode {
    let config = match settings.load() {
        Ok(config) => config,
        Err(errors) => return fail(EXIT_MISTAKE, errors),
    };
    let chosen = |id: &TenantId| args.tenant.as_ref().is_none_or(|name| name == id.as_str());
    let tenants: Vec<_> = config.tenants.iter().filter(|(id, _)| chosen(id)).collect();
    if tenants.is_empty() {
        let known: Vec<_> = config.tenants.keys().map(ToString::to_string).collect();
        let known = known.join(", ");
        return fail(EXIT_MISTAKE, format!("--tenant: no such tenant; there are: {known}"));
    }
    match block_on(None, examine(&config, &tenants)) {
        Ok(code) => code,
        Err(error) => fail(EXIT_FAILED, format!("cannot start the runtime: {error}")),
    }
}

async fn examine(config: &Config, tenants: &[(&TenantId, &Tenant)]) -> ExitCode {
    let mut found = Vec::new();
    say("configuration");
    report(&mut found, configuration(config));
    for (id, tenant) in tenants {
        say(format_args!("tenant {id}"));
        report(&mut found, doctor::tenant(id, tenant));
        for url in &tenant.base_urls {
            say(format_args!("tenant {id}: {url}"));
            report(&mut found, doctor::address(id, tenant, url).await);
        }
    }
    let count = |level| found.iter().filter(|found| **found == level).count();
    let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
    say(format_args!("problems: {problems}, warnings: {warnings}"));
    if problems == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) }
}

fn configuration(config: &Config) -> Vec<Finding> {
    let warning =
        |found| Finding { level: Level::Warning, check: "settings", found, remedy: String::new() };
    let warnings: Vec<_> = config.warnings().into_iter().map(warning).collect();
    if warnings.is_empty() {
        let (level, check) = (Level::Ok, "settings");
        return vec![Finding { level, check, found: "good".to_owned(), remedy: String::new() }];
    }
    warnings
}

/// Prints a line for each finding: the level, what was checked, what was found; what to do. Adds
/// the levels to `levels`.
fn report(levels: &mut Vec<Level>, findings: Vec<Finding>) {
    for Finding { level, check, found, remedy } in findings {
        let shown = match level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        };
        let remedy = if remedy.is_empty() { remedy } else { format!("; {remedy}") };
        say(format_args!("  {shown:<8} {check}: {found}{remedy}"));
        levels.push(level);
    }
}
