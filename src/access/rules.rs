use super::{Access, Principal, PrincipalPattern, Rights};
use crate::id::TenantId;
use std::{collections::BTreeMap, time::SystemTime};

/// What some principals may do.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Whom it is about.
    pub principals: Vec<PrincipalPattern>,
    /// At which tenants.
    pub reach: Reach,
    /// What they may do there.
    pub rights: Rights,
}

/// The tenants of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All that are configured.
    Everywhere,
    /// These.
    At(Vec<TenantId>),
}

/// All rules of the configuration. What no rule allows is not allowed.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `None`: there are no rules, and everybody who is let in may do everything.
    rules: Option<Vec<Rule>>,
    tenants: Vec<TenantId>,
}

impl Rules {
    /// Rules about the tenants that are configured.
    pub fn new(rules: Vec<Rule>, tenants: Vec<TenantId>) -> Self {
        Self { rules: Some(rules), tenants }
    }

    /// No rules: everybody who is let in may do everything.
    pub fn none(tenants: Vec<TenantId>) -> Self {
        Self { rules: None, tenants }
    }

    /// What a caller may do who is all of these principals, until a time.
    pub fn access(&self, principals: Vec<Principal>, until: Option<SystemTime>) -> Access {
        let (mut everywhere, mut at) = (Rights::NONE, BTreeMap::<TenantId, Rights>::new());
        let is_about = |rule: &&Rule| {
            let about =
                |principal| rule.principals.iter().any(|pattern| pattern.is_about(principal));
            principals.iter().any(about)
        };
        match &self.rules {
            None => everywhere = Rights::ALL,
            Some(rules) => {
                for Rule { reach, rights, .. } in rules.iter().filter(is_about) {
                    match reach {
                        Reach::Everywhere => everywhere = everywhere.and(*rights),
                        Reach::At(tenants) => {
                            for tenant in tenants {
                                let known = at.entry(tenant.clone()).or_default();
                                *known = known.and(*rights);
                            }
                        }
                    }
                }
            }
        }
        Access::new(principals, everywhere, at, &self.tenants, until)
    }
}
