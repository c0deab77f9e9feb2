use std::{collections::BTreeMap, time::SystemTime};

use super::{Access, Principal, PrincipalPattern, Rights};
use crate::{call::Unidentified, id::TenantId};

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

    /// Rules that allow nobody anything.
    pub fn nobody() -> Self {
        Self::new(Vec::new(), Vec::new())
    }

    /// Whether there are none, so that everybody who is let in may do everything.
    pub fn is_empty(&self) -> bool {
        self.rules.is_none()
    }

    /// What a caller may do who is all of these principals, until a time, and why not for longer.
    pub fn access(
        &self,
        mut principals: Vec<Principal>,
        until: Option<(SystemTime, Unidentified)>,
    ) -> Access {
        // Logs show only the first ones, and have to name those by which the caller has its rights.
        principals.sort_by_key(|principal| !self.names(principal));
        let everywhere = if self.rules.is_none() { Rights::ALL } else { Rights::NONE };
        let mut given = (everywhere, BTreeMap::new());
        for rule in self.rules.iter().flatten().filter(|rule| rule.is_about(&principals)) {
            rule.give(&mut given);
        }
        let (everywhere, at) = given;
        Access::new(principals, everywhere, at, &self.tenants, until)
    }

    /// Whether a rule is about this principal, and not about everybody who is known.
    fn names(&self, principal: &Principal) -> bool {
        let patterns = self.rules.iter().flatten().flat_map(|rule| &rule.principals);
        let mut own = patterns.filter(|pattern| **pattern != PrincipalPattern::Identified);
        own.any(|pattern| pattern.is_about(principal))
    }
}

impl Rule {
    /// Whether it is about a caller who is all of these principals.
    fn is_about(&self, principals: &[Principal]) -> bool {
        let about = |principal| self.principals.iter().any(|pattern| pattern.is_about(principal));
        principals.iter().any(about)
    }

    /// Adds its rights to those everywhere, or to those at some tenants.
    fn give(&self, (everywhere, at): &mut (Rights, BTreeMap<TenantId, Rights>)) {
        match &self.reach {
            Reach::Everywhere => *everywhere = everywhere.union(self.rights),
            Reach::At(tenants) => {
                for tenant in tenants {
                    let known = at.entry(tenant.clone()).or_default();
                    *known = known.union(self.rights);
                }
            }
        }
    }
}
