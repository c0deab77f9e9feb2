//! Whether polls for all agents of a node are of use at a gateway.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Whether a tenant polls for all agents of a node, as its configuration says. Another version of the tenant tries again.
#[derive(Debug, Default)]
pub(in crate::tenant) struct NodePolls {
    are_given_up: AtomicBool,
    /// How often in a row they were refused with Guids that proved to be good.
    fruitless: AtomicU32,
}

/// Fewer in a row may be a coincidence: a poll may have crossed a renewal of its Guid.
const FRUITLESS_MAX: u32 = 3;

impl NodePolls {
    pub(in crate::tenant) fn are_usable(&self) -> bool {
        !self.are_given_up.load(Ordering::Relaxed)
    }

    /// Notes that a poll was answered.
    pub(in crate::tenant) fn answered(&self) {
        self.fruitless.store(0, Ordering::Relaxed);
    }

    /// Notes that a poll was refused with a Guid that is good. Returns whether polls are given up for that.
    pub(in crate::tenant) fn came_to_nothing(&self) -> bool {
        let fruitless = self.fruitless.fetch_add(1, Ordering::Relaxed) + 1;
        fruitless >= FRUITLESS_MAX && self.give_up()
    }

    /// Gives polls for all agents up. Returns whether they were not given up before.
    pub(in crate::tenant) fn give_up(&self) -> bool {
        !self.are_given_up.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_that_are_refused_with_good_guids_several_times_in_a_row_are_given_up_once() {
        let polls = NodePolls::default();
        for _ in 0..3 {
            assert!(!polls.came_to_nothing() && !polls.came_to_nothing());
            polls.answered();
        }
        assert!(polls.are_usable());
        let given_up = [(); 5].map(|()| polls.came_to_nothing());
        assert_eq!(given_up, [false, false, true, false, false]);
        assert!(!polls.are_usable() && !polls.give_up());
    }

    #[test]
    fn a_gateway_that_has_no_such_polls_is_asked_no_more() {
        let polls = NodePolls::default();
        assert!(polls.give_up(), "it is said once");
        assert!(!polls.give_up() && !polls.are_usable());
    }
}
