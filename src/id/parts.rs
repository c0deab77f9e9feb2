//! A division of the agents.

use std::{iter, num::NonZeroUsize};

use super::AgentId;

/// A value for each part of a tenant's agents. What is known of a million agents is in a hundred tables then, so that none
/// takes long to grow or to go through.
#[derive(Debug)]
pub(crate) struct Parts<T> {
    first: T,
    others: Box<[T]>,
}

/// About how many agents a part has; a tenant with the default of `limits.sessions` has one part.
const PART: usize = 10_000;
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
    use std::cell::Cell;

    use super::*;
    use crate::id::AGENT_IDS_ANY;

    #[test]
    fn every_part_has_about_as_many_agents() {
        for (count, expected) in [(1, 1_u32), (10_000, 1), (10_001, 2), (1_000_000, 100)] {
            for step in [1, 2, 10, 64, 100, 1_000] {
                let parts = Parts::for_agents(NonZeroUsize::new(count).unwrap(), || Cell::new(0));
                for nth in 1..=100 * expected {
                    let agent = AgentId::parse(&(nth * step).to_string(), &AGENT_IDS_ANY).unwrap();
                    let part = parts.of(agent);
                    part.set(part.get() + 1);
                }
                let agents: Vec<u32> = parts.all().map(Cell::get).collect();
                assert_eq!(agents.len(), expected as usize);
                assert!(agents.iter().all(|agents| (50..=200).contains(agents)), "{agents:?}");
            }
        }
    }
}
