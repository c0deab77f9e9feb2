//! The ids of tenants, agents and requests. They have different types, so that they cannot be confused.

mod parts;
mod request_id;

use std::{collections::HashMap, fmt, ops::RangeInclusive};

pub(crate) use self::parts::Parts;
pub use self::request_id::{InvalidRequestId, RequestId};

/// A tenant's id: 1 to 63 of `a-z 0-9 - _ .`, starting with a letter or digit. It is used in the
/// configuration, as a metric label and as a log field.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Box<str>);

/// Why a text is not a [`TenantId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 63 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit")]
pub struct InvalidTenantId;

/// An agent's id on a gateway (a "work number").
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentId(u32);

/// A table of agents that each call looks into. Callers choose whom they call, so its hash has a key, which no other process
/// has; it is not a cryptographic one, which would take a call longer.
pub(crate) type AgentMap<T> = HashMap<AgentId, T, foldhash::fast::RandomState>;

/// Why a text is not an [`AgentId`] of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAgentId {
    /// Empty.
    #[error("is missing; give the agent's id, such as \"{}\"", .0.start())]
    Missing(RangeInclusive<u32>),
    /// Not ASCII digits without a leading zero. The vendor's own route expression is as strict
    /// (API.md 1.2).
    #[error("must be decimal digits (0-9) without a leading zero, such as \"{}\"", .0.start())]
    Malformed(RangeInclusive<u32>),
    /// Outside the tenant's range.
    #[error("must be from {} to {} for this tenant", .0.start(), .0.end())]
    OutOfRange(RangeInclusive<u32>),
}

/// The agent ids of the reference API (cec_07_1202). Its versions since 2025-11 go up to 999999.
pub const DEFAULT_AGENT_IDS: RangeInclusive<u32> = 101..=59_999;

/// Every id that an agent can have, whatever the tenant.
pub(crate) const AGENT_IDS_ANY: RangeInclusive<u32> = 1..=999_999_999;

/// No gateway is known to use longer ids than nine digits.
const MAX_DIGITS: usize = 9;

// === impl TenantId ===

impl TenantId {
    /// Reads an id.
    pub fn parse(text: &str) -> Result<Self, InvalidTenantId> {
        let named = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let good = bytes.len() <= 63
            && bytes.first().copied().is_some_and(named)
            && bytes.iter().all(|&b| named(b) || matches!(b, b'-' | b'_' | b'.'));
        if good { Ok(Self(text.into())) } else { Err(InvalidTenantId) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl std::borrow::Borrow<str> for TenantId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

// === impl AgentId ===

impl AgentId {
    /// Reads an id within `range`.
    pub fn parse(text: &str, range: &RangeInclusive<u32>) -> Result<Self, InvalidAgentId> {
        if text.is_empty() {
            return Err(InvalidAgentId::Missing(range.clone()));
        }
        // `u32::from_str` alone would accept a plus sign.
        let digits = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        if !digits {
            return Err(InvalidAgentId::Malformed(range.clone()));
        }
        match text.parse() {
            Ok(id) if text.len() <= MAX_DIGITS && range.contains(&id) => Ok(Self(id)),
            _ => Err(InvalidAgentId::OutOfRange(range.clone())),
        }
    }

    /// The lowest id of a range.
    pub fn lowest(range: &RangeInclusive<u32>) -> Self {
        Self(*range.start())
    }

    /// The id as a number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &Result<u32, InvalidAgentId>) {
        let parsed = AgentId::parse(text, &DEFAULT_AGENT_IDS).map(AgentId::get);
        assert_eq!(&parsed, expected, "{text:?}");
    }

    #[test]
    fn agent_ids_are_plain_digits_within_the_range() {
        let range = || DEFAULT_AGENT_IDS;
        check("101", &Ok(101));
        check("59999", &Ok(59_999));
        check("", &Err(InvalidAgentId::Missing(range())));
        for outside in ["1", "100", "60000", "4294967296", "99999999999999999999"] {
            check(outside, &Err(InvalidAgentId::OutOfRange(range())));
        }
        for malformed in ["0", "01001", "+1001", "-1001", "1001/../x", "１００１", " 1001", "1e3"]
        {
            check(malformed, &Err(InvalidAgentId::Malformed(range())));
        }
    }

    #[test]
    fn tenant_ids_are_safe_as_labels() {
        for good in ["a", "acme", "acme-2.eu_1", "7"] {
            assert!(TenantId::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", "-a", "Acme", "a b", "ä", "a/b", &"a".repeat(64)] {
            assert_eq!(TenantId::parse(bad), Err(InvalidTenantId), "{bad:?}");
        }
    }
}
