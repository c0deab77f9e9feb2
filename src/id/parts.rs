//! A division of the agents.

use std::{iter, num::NonZeroUsize};

use super::AgentId;

/// A value for each part of a tenant's agents. What is known of a million agents is in 72 tables then: to grow one of them, or
/// to go through it, takes a small part of the time that one table of all agents would take.
#[derive(Debug)]
pub(crate) struct Parts<T> {
    first: T,
    others: Box<[T]>,
}

/// About how many agents a part has at most. A hash table of so many is nearly full: the next larger one begins at 14 337. The
/// two parts for 20 000 agents are less full, and a table that also remembers ended sessions may have several times the entries.
/// A tenant with the default of `limits.sessions` has one part.
const PART: usize = 14_000;
/// Scatters ids, since callers may have only those that end with zeros.
const SCATTER: u32 = 0x9E37_79B1;

impl<T> Parts<T> {
    /// Parts for about so many agents, each with a new value.
    pub(crate) fn for_agents(count: NonZeroUsize, new: impl Fn() -> T) -> Self {
        let others = (1..count.get().div_ceil(PART)).map(|_| new());
        Self { others: others.collect(), first: new() }
    }

    /// The value of the part that has this agent.
    pub(crate) fn of(&self, agent: AgentId) -> &T {
        self.others.get(self.index(agent)).unwrap_or(&self.first)
    }

    /// The same, to change it.
    pub(crate) fn of_mut(&mut self, agent: AgentId) -> &mut T {
        let index = self.index(agent);
        self.others.get_mut(index).unwrap_or(&mut self.first)
    }

    /// The values of all parts.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        iter::once(&self.first).chain(self.others.iter())
    }

    /// Below the number of parts; the last one is `first`.
    fn index(&self, agent: AgentId) -> usize {
        let scattered = u64::from(agent.get().wrapping_mul(SCATTER));
        let parts = self.others.len() as u64 + 1;
        usize::try_from((scattered * parts) >> u32::BITS).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::AGENT_IDS_ANY;

    #[test]
    fn every_part_has_about_as_many_agents() {
        for (count, expected) in [(1, 1_u32), (14_000, 1), (14_001, 2), (1_000_000, 72)] {
            for step in [1, 2, 10, 64, 100, 1_000] {
                let mut parts = Parts::for_agents(NonZeroUsize::new(count).unwrap(), || 0_u32);
                for nth in 1..=100 * expected {
                    let agent = AgentId::parse(&(nth * step).to_string(), &AGENT_IDS_ANY).unwrap();
                    let before = *parts.of(agent);
                    *parts.of_mut(agent) += 1;
                    assert_eq!(*parts.of(agent), before + 1);
                }
                let agents: Vec<_> = parts.all().copied().collect();
                assert_eq!(agents.len(), expected as usize);
                assert!(agents.iter().all(|agents| (50..=200).contains(agents)), "{agents:?}");
            }
        }
    }
}
