use std::process::ExitCode;

use serde::Serialize;
use serde_json::Value;

use super::{
    EXIT_FAILED, EXIT_MISTAKE, block_on,
    check_config::mistakes,
    fail,
    progress::waiting,
    say,
    settings::{ConfigFile, Settings},
    text::wrapped,
};
use crate::{
    config::{Config, ConfigErrors, Tenant},
    doctor::{self, Finding, Level},
    id::TenantId,
    server::ask_store,
};

#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Check only this tenant.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Print what was found as JSON, when all is done.
    #[arg(long)]
    json: bool,
}

/// What was found, as `--json` prints it.
#[derive(Debug, Default, Serialize)]
struct Report {
    problems: usize,
    warnings: usize,
    findings: Vec<Line>,
    /// Mistakes in the configuration; nothing is looked at where there are some.
    mistakes: Vec<Value>,
    #[serde(skip)]
    json: bool,
}

/// A finding and what it is about.
#[derive(Debug, Serialize)]
struct Line {
    subject: String,
    level: &'static str,
    check: &'static str,
    found: String,
    remedy: String,
}

/// Where the text of a finding goes on in the next line.
const INDENT: usize = 11;

/// `given` stands in front of the command's name.
pub(super) fn run(given: Settings, args: DoctorArgs) -> ExitCode {
    let report = Report { json: args.json, ..Report::default() };
    let config = match Settings::of_file(args.file).or(given).load() {
        Ok(config) => config,
        Err(errors) => return report.end_with_mistakes(&errors),
    };
    let chosen = |id: &TenantId| args.tenant.as_ref().is_none_or(|name| name == id.as_str());
    let tenants: Vec<_> = config.tenants.iter().filter(|(id, _)| chosen(id)).collect();
    if tenants.is_empty() {
        let known: Vec<_> = config.tenants.keys().map(ToString::to_string).collect();
        let known = known.join(", ");
        return fail(EXIT_MISTAKE, format!("--tenant: no such tenant; there are: {known}"));
    }
    match block_on(None, examine(&config, &tenants, report)) {
        Ok(code) => code,
        Err(error) => fail(EXIT_FAILED, format!("cannot start the runtime: {error}")),
    }
}

async fn examine(
    config: &Config,
    tenants: &[(&TenantId, &Tenant)],
    mut report: Report,
) -> ExitCode {
    report.add("configuration", configuration(config));
    let ids: Vec<_> = tenants.iter().map(|(id, _)| *id).collect();
    if let Some(asked) = waiting("asking the store", ask_store(config, &ids)).await {
        report.add("store", vec![doctor::store(asked)]);
    }
    for (name, issuer) in &config.issuers {
        let subject = format!("issuer {name}");
        report.add(&subject, vec![waiting(&subject, doctor::issuer(name, issuer)).await]);
    }
    if let Some(traces) = &config.traces {
        let asked = waiting("asking the collector of traces", doctor::collector(traces)).await;
        report.add("traces", vec![asked]);
    }
    for (id, tenant) in tenants {
        report.add(&format!("tenant {id}"), doctor::tenant(id, tenant));
        for url in &tenant.base_urls {
            let subject = format!("tenant {id}: {url}");
            let findings = waiting(&subject, Box::pin(doctor::address(id, tenant, url))).await;
            report.add(&subject, findings);
        }
    }
    report.end()
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

impl Report {
    /// Takes what was found about the subject, and prints it at once if it is for people.
    fn add(&mut self, subject: &str, findings: Vec<Finding>) {
        if !self.json {
            say(subject);
        }
        for finding in findings {
            match finding.level {
                Level::Ok => {}
                Level::Warning => self.warnings += 1,
                Level::Problem => self.problems += 1,
            }
            if !self.json {
                say(shown(&finding));
            }
            let Finding { level, check, found, remedy } = finding;
            let (subject, level) = (subject.to_owned(), word(level));
            self.findings.push(Line { subject, level, check, found, remedy });
        }
    }

    fn end_with_mistakes(mut self, errors: &ConfigErrors) -> ExitCode {
        if !self.json {
            return fail(EXIT_MISTAKE, errors);
        }
        self.mistakes = mistakes(errors);
        self.print(ExitCode::from(EXIT_MISTAKE))
    }

    /// Prints all that was found, for programs. Returns `code`.
    fn print(&self, code: ExitCode) -> ExitCode {
        match serde_json::to_string_pretty(self) {
            Ok(json) => say(json),
            Err(error) => return fail(EXIT_FAILED, error),
        }
        code
    }

    fn end(&self) -> ExitCode {
        let code = if self.problems == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) };
        if self.json {
            return self.print(code);
        }
        say(format_args!("problems: {}, warnings: {}", self.problems, self.warnings));
        code
    }
}

/// The level, what was checked, what was found; what to do. A remedy may have more lines, which are to be
/// copied and are not wrapped.
fn shown(Finding { level, check, found, remedy }: &Finding) -> String {
    let (remedy, copied) = match remedy.split_once('\n') {
        Some((remedy, copied)) => (remedy, format!("\n{copied}")),
        None => (remedy.as_str(), String::new()),
    };
    let remedy = if remedy.is_empty() { String::new() } else { format!("; {remedy}") };
    let head = format!("  {:<8} {check}: ", word(*level));
    wrapped(&head, &format!("{found}{remedy}"), INDENT) + &copied
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Problem => "problem",
    }
}
