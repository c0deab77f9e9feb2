//! `tenants.<id>.edition`.

use std::{fmt, ops::RangeInclusive};

use crate::{config::reader::Section, id::DEFAULT_AGENT_IDS};

/// An edition of the gateway's interface, older ones first. It decides which agent ids are valid and
/// which interfaces there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edition {
    /// The vendor's library of 2014: ids from 1 to 19999, and no `agentstatus` (client).
    V2014,
    /// The documentation from 2023-09 on: ids from 101 to 59999 (cec_07_1202).
    V2023,
    /// The documentation from 2025-11 on: ids from 101 to 999999 (cec_07_13461).
    V2025,
}

const ALL: [Edition; 3] = [Edition::V2014, Edition::V2023, Edition::V2025];

impl Edition {
    /// As the configuration spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2014 => "2014",
            Self::V2023 => "2023-09",
            Self::V2025 => "2025-11",
        }
    }

    /// The agent ids that are valid in this edition.
    pub const fn agent_ids(self) -> RangeInclusive<u32> {
        match self {
            Self::V2014 => 1..=19_999,
            Self::V2023 => DEFAULT_AGENT_IDS,
            Self::V2025 => 101..=999_999,
        }
    }
}

impl fmt::Display for Edition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads `edition` from a tenant's section.
pub(super) fn edition(section: &Section<'_>) -> Edition {
    let words = ALL.map(|edition| (edition.as_str(), edition));
    section.choice("edition", &words).unwrap_or(Edition::V2023)
}
