/// What a caller may do at a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Ask for states and sessions.
    Read,
    /// Change what agents are doing.
    Write,
    /// Sign agents in and out, and register their Guids.
    Session,
    /// Watch events.
    Watch,
}

/// Several rights, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u8);

impl Right {
    /// All of them, as the configuration spells them.
    pub const ALL: [(&'static str, Self); 4] = [
        ("read", Self::Read),
        ("write", Self::Write),
        ("session", Self::Session),
        ("watch", Self::Watch),
    ];

    /// Whether what it opens may change something.
    pub const fn changes(self) -> bool {
        matches!(self, Self::Write | Self::Session)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Rights {
    /// No right.
    pub const NONE: Self = Self(0);
    /// Every right.
    pub const ALL: Self = Self(0b1111);

    /// Whether `right` is one of them.
    pub fn contains(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// These and those.
    #[must_use]
    pub fn union(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        Self(rights.into_iter().fold(0, |bits, right| bits | right.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rights_are_those_that_have_a_name() {
        let all = Right::ALL.map(|(_, right)| right);
        assert_eq!(all.into_iter().collect::<Rights>(), Rights::ALL);
        for right in all {
            let only: Rights = [right].into_iter().collect();
            assert!(all.into_iter().all(|other| only.contains(other) == (other == right)));
            assert!(!Rights::NONE.contains(right));
        }
    }
}
