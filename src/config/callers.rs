//! `[callers.<name>]`: who may do what.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Listener, ListenerName, Tenant,
    error::{Problem, quote},
    reader::Section,
    tenant::CALLERS_MAX,
};
use crate::{
    access::{PrincipalPattern, Reach, Right, Rights, Rule, Rules},
    id::TenantId,
};

/// Who may do what. [`Rules`] are made of it.
#[derive(Debug, Default)]
pub struct Callers(Vec<Rule>);

const PRINCIPALS_MAX: usize = 256;
const TENANTS_MAX: usize = 10_000;
const EVERY: &str = "*";
const EXAMPLE: &str = "add one, for example\n      [callers.all]\n      principals = [\"*\"]\n      \
                       tenants = [\"*\"]\n      rights = [\"*\"]";

pub(super) fn callers(
    root: &Section<'_>,
    tenants: &BTreeMap<TenantId, Tenant>,
    issuers: &BTreeSet<&str>,
) -> Callers {
    let section = root.section("callers");
    let names: BTreeSet<_> = section.named().map(|(name, _)| name).collect();
    // Nobody is meant to be let in by a section whose rules are all commented out.
    if root.has("callers") && names.is_empty() {
        section.none_named(Problem::new("has no rules", EXAMPLE));
    }
    check_names(root, tenants, &names);
    let mut by_name: BTreeMap<&str, Vec<&TenantId>> = BTreeMap::new();
    for (id, tenant) in tenants {
        for name in &tenant.callers {
            by_name.entry(name).or_default().push(id);
        }
    }
    let rules = section.named().filter_map(|(name, section)| {
        let listed = by_name.get(name).map(Vec::as_slice).unwrap_or_default();
        rule(&section, tenants, issuers, listed)
    });
    Callers(rules.collect())
}

/// Notes names in tenants' `callers` that are of no rule.
fn check_names(root: &Section<'_>, tenants: &BTreeMap<TenantId, Tenant>, known: &BTreeSet<&str>) {
    let section = root.section("tenants");
    for id in tenants.keys() {
        section.chosen(id.as_str()).list("callers", CALLERS_MAX, |name| {
            known.contains(name).then_some(()).ok_or_else(|| {
                let problem = format!("{} names no section of [callers]", quote(name));
                Problem::new(problem, "add that section, or give the name of another")
            })
        });
    }
}

fn rule(
    section: &Section<'_>,
    tenants: &BTreeMap<TenantId, Tenant>,
    issuers: &BTreeSet<&str>,
    listed: &[&TenantId],
) -> Option<Rule> {
    let principals = section.list("principals", PRINCIPALS_MAX, |text| principal(text, issuers));
    section.missing("principals", PrincipalPattern::FORMS);
    let rights = section.list("rights", Right::ALL.len() + 1, rights);
    section.missing(
        "rights",
        "give some of \"read\", \"write\", \"session\", \"watch\", or \"*\" for all",
    );
    let named = section.list("tenants", TENANTS_MAX, |text| tenant(text, tenants));
    if listed.is_empty() {
        section.missing(
            "tenants",
            "give the ids of tenants, or \"*\" for all; or name this section in the callers of a tenant",
        );
    }
    let named = named.unwrap_or_default();
    let reach = if named.contains(&None) {
        Reach::Everywhere
    } else {
        Reach::At(named.into_iter().flatten().chain(listed.iter().copied().cloned()).collect())
    };
    let rights = rights?.into_iter().fold(Rights::NONE, Rights::union);
    Some(Rule { principals: principals?, reach, rights })
}

fn principal(text: &str, issuers: &BTreeSet<&str>) -> Result<PrincipalPattern, Problem> {
    let pattern = PrincipalPattern::parse(text)
        .map_err(|why| Problem::new(format!("{} {why}", quote(text)), PrincipalPattern::FORMS))?;
    match pattern.issuer() {
        Some(issuer) if !issuers.contains(issuer) => Err(Problem::new(
            format!("{} names an issuer that is no section of [issuers]", quote(text)),
            "write \"jwt:\", the name of a section of [issuers], \":\" and the subject",
        )),
        _ => Ok(pattern),
    }
}

fn rights(text: &str) -> Result<Rights, Problem> {
    if text == EVERY {
        return Ok(Rights::ALL);
    }
    let found = Right::ALL.iter().find(|(name, _)| *name == text);
    found.map(|(_, right)| [*right].into_iter().collect()).ok_or_else(|| {
        Problem::new(
            format!("{} is no right", quote(text)),
            "give some of \"read\", \"write\", \"session\", \"watch\", or \"*\" for all",
        )
    })
}

/// A tenant that is configured; `None`: all of them.
fn tenant(text: &str, tenants: &BTreeMap<TenantId, Tenant>) -> Result<Option<TenantId>, Problem> {
    if text == EVERY {
        return Ok(None);
    }
    let found = tenants.get_key_value(text).map(|(id, _)| Some(id.clone()));
    found.ok_or_else(|| {
        let problem = format!("tenant {} is not configured", quote(text));
        Problem::new(problem, "give the id of a tenant, or \"*\" for all")
    })
}

/// Notes listeners that ask callers who they are, where no rule lets anybody do anything.
pub(super) fn check(root: &Section<'_>, listeners: &BTreeMap<ListenerName, Listener>) {
    let identifies = listeners.iter().find(|(_, listener)| listener.identifies());
    if let Some((name, _)) = identifies.filter(|_| !root.has("callers")) {
        root.section("listeners").chosen(name.as_str()).error(Problem::new(
            "asks callers who they are, but there are no rules on what they may do",
            EXAMPLE,
        ));
    }
}

impl Callers {
    /// The rules, for these tenants. Without any, everybody who is let in may do everything.
    pub fn rules(&self, tenants: Vec<TenantId>) -> Rules {
        if self.0.is_empty() { Rules::none(tenants) } else { Rules::new(self.0.clone(), tenants) }
    }
}
