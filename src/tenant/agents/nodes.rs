//! Which sessions are kept by the polls of which nodes of the gateway (`keep.poll = "all"`).

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Bound, RangeBounds as _},
    sync::Arc,
};

use crate::{id::AgentId, session::Session};

/// A node of the gateway, by the name that the Guids of its sessions have. Sessions whose Guids name none count as those of
/// one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::tenant) struct Node(Option<Arc<str>>);

/// The members of each node's poll. A node is among them for as long as its poll has a task.
#[derive(Debug, Default)]
pub(super) struct Nodes(BTreeMap<Node, BTreeSet<AgentId>>);

impl Node {
    /// The node that has this session.
    pub(in crate::tenant) fn of(session: &Session) -> Self {
        Self(session.guid.node().map(Into::into))
    }

    pub(in crate::tenant) fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl Nodes {
    /// Notes whose member an agent is now, and was before. Returns whether the node's poll has to begin.
    pub(super) fn note(&mut self, agent: AgentId, was: Option<&Node>, is: Option<&Node>) -> bool {
        if was == is {
            return false;
        }
        if let Some(members) = was.and_then(|node| self.0.get_mut(node)) {
            members.remove(&agent);
        }
        let Some(node) = is else { return false };
        let begins = !self.0.contains_key(node);
        self.0.entry(node.clone()).or_default().insert(agent);
        begins
    }

    /// Ends a node's poll unless it has members. Returns whether it has ended.
    pub(super) fn end(&mut self, node: &Node) -> bool {
        let ends = self.0.get(node).is_none_or(BTreeSet::is_empty);
        if ends {
            self.0.remove(node);
        }
        ends
    }

    pub(super) fn count(&self, node: &Node) -> usize {
        self.0.get(node).map_or(0, BTreeSet::len)
    }

    /// The members of a node's poll in a circle, which begins here.
    pub(super) fn members(
        &self,
        node: &Node,
        begin: Bound<AgentId>,
    ) -> impl Iterator<Item = AgentId> {
        let members = self.0.get(node);
        let later: (Bound<AgentId>, Bound<AgentId>) = (begin, Bound::Unbounded);
        let first = members.into_iter().flat_map(move |all| all.range::<AgentId, _>(later));
        let then = members.into_iter().flatten().take_while(move |agent| !later.contains(*agent));
        first.chain(then).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DEFAULT_AGENT_IDS;

    fn agent(id: u32) -> AgentId {
        AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).expect("an agent")
    }

    fn node(name: &str) -> Node {
        Node(Some(name.into()))
    }

    #[test]
    fn a_poll_begins_with_its_first_member_and_ends_once_it_has_none() {
        let (mut nodes, [one, other]) = (Nodes::default(), [node("N1"), node("N2")]);
        assert!(nodes.note(agent(101), None, Some(&one)));
        assert!(!nodes.note(agent(102), None, Some(&one)), "it goes on");
        assert!(!nodes.note(agent(102), Some(&one), Some(&one)));
        assert!(nodes.note(agent(102), Some(&one), Some(&other)));
        assert_eq!((nodes.count(&one), nodes.count(&other)), (1, 1));
        assert!(!nodes.end(&one));
        assert!(!nodes.note(agent(101), Some(&one), None));
        assert!(!nodes.note(agent(101), None, Some(&one)), "its task has not noticed");
        assert!(!nodes.note(agent(101), Some(&one), None));
        assert!(nodes.end(&one));
        assert!(nodes.note(agent(101), None, Some(&one)), "another task has to begin");
        assert!(!nodes.note(agent(103), None, None));
    }

    #[test]
    fn members_are_in_a_circle_each_once() {
        let (mut nodes, one) = (Nodes::default(), node("N1"));
        for id in [103, 101, 102] {
            nodes.note(agent(id), None, Some(&one));
        }
        for (begin, expected) in [
            (Bound::Unbounded, [101, 102, 103]),
            (Bound::Included(agent(102)), [102, 103, 101]),
            (Bound::Excluded(agent(102)), [103, 101, 102]),
            (Bound::Excluded(agent(103)), [101, 102, 103]),
            (Bound::Excluded(agent(999)), [101, 102, 103]),
        ] {
            let members: Vec<_> = nodes.members(&one, begin).map(AgentId::get).collect();
            assert_eq!(members, expected, "{begin:?}");
        }
        assert_eq!(nodes.members(&Node::default(), Bound::Unbounded).count(), 0);
    }
}
