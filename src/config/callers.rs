//! `[callers.<name>]`: who may do what.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Issuer, Listener, ListenerName, Tenant,
    error::{Problem, quote},
    reader::Section,
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

pub(super) fn callers(
    root: &Section<'_>,
    tenants: &BTreeMap<TenantId, Tenant>,
    issuers: &BTreeMap<String, Issuer>,
) -> Callers {
    let section = root.section("callers");
    let mut by_name: BTreeMap<&str, Vec<&TenantId>> = BTreeMap::new();
    for (id, tenant) in tenants {
        for name in &tenant.callers {
            by_name.entry(name).or_default().push(id);
        }
    }
    let mut rules = Vec::new();
    let mut names = BTreeSet::new();
    for (name, section) in section.named() {
        names.insert(name);
        let listed = by_name.get(name).map(Vec::as_slice).unwrap_or_default();
        rules.extend(rule(&section, tenants, issuers, listed));
    }
    for (id, tenant) in tenants {
        let section = root.section("tenants").chosen(id.as_str());
        for name in tenant.callers.iter().filter(|name| !names.contains(name.as_str())) {
            let problem = format!("there is no [callers.{name}]");
            section.contradiction(
                &["callers"],
                Problem::new(problem, "give the name of a section of [callers]"),
            );
        }
    }
    Callers(rules)
}

fn rule(
    section: &Section<'_>,
    tenants: &BTreeMap<TenantId, Tenant>,
    issuers: &BTreeMap<String, Issuer>,
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
            "give the ids of tenants, or \"*\" for all; or name this section in a tenant's callers",
        );
    }
    let named = named.unwrap_or_default();
    let reach = if named.contains(&None) {
        Reach::Everywhere
    } else {
        Reach::At(named.into_iter().flatten().chain(listed.iter().copied().cloned()).collect())
    };
    let rights = rights?.into_iter().fold(Rights::NONE, Rights::and);
    Some(Rule { principals: principals?, reach, rights })
}

fn principal(text: &str, issuers: &BTreeMap<String, Issuer>) -> Result<PrincipalPattern, Problem> {
    let pattern = PrincipalPattern::parse(text)
        .map_err(|why| Problem::new(format!("{} {why}", quote(text)), PrincipalPattern::FORMS))?;
    match pattern.issuer() {
        Some(issuer) if !issuers.contains_key(issuer) => Err(Problem::new(
            format!("{} is of an issuer that is not configured", quote(text)),
            format!("add [issuers.{issuer}], or give the name of another one"),
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

/// Notes what callers can do nothing about: a listener that asks who they are, while no rule lets anybody
/// do anything.
pub(super) fn check(
    root: &Section<'_>,
    callers: &Callers,
    listeners: &BTreeMap<ListenerName, Listener>,
) {
    let identifies = listeners.iter().find(|(_, listener)| listener.identifies());
    if let Some((name, _)) = identifies.filter(|_| callers.0.is_empty() && !root.has("callers")) {
        root.section("listeners").chosen(name.as_str()).error(Problem::new(
            "asks callers who they are, but no section of [callers] lets anybody do anything",
            "add one, for example\n      [callers.all]\n      principals = [\"*\"]\n      \
             tenants = [\"*\"]\n      rights = [\"*\"]",
        ));
    }
}

impl Callers {
    /// The rules, for these tenants. Without any, everybody who is let in may do everything.
    pub fn rules(&self, tenants: Vec<TenantId>) -> Rules {
        if self.0.is_empty() { Rules::none(tenants) } else { Rules::new(self.0.clone(), tenants) }
    }
}
