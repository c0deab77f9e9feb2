//! A queue in which one who comes with very many does not keep the others waiting.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::tenant::CallerId;

/// Those who wait, in a line for each caller. The lines take turns.
///
/// Each line has a round in which its turn comes, and the next one is a round later. A line that is new has its turn in
/// the present round, if its caller has had none in it. So no line gets more than one turn before each of the others has
/// had one, and a caller with few calls does not wait until all who have many have had theirs once more.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    round: u64,
    lines: HashMap<CallerId, Line<T>>,
    turns: BTreeMap<Turn, CallerId>,
    /// The callers who have had their turn in this round.
    served: HashSet<CallerId>,
    /// The last number that was given.
    last: i64,
    len: usize,
}

#[derive(Debug)]
struct Line<T> {
    turn: Turn,
    /// By number.
    waiting: BTreeMap<i64, T>,
}

/// The most callers that have a turn in one round. Otherwise a round in which new callers keep coming would not end.
const ROUND_MAX: usize = 1024;

/// The round of a line's next turn, and its number in it.
type Turn = (u64, i64);

/// Who waits in a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    caller: CallerId,
    number: i64,
}

/// Who comes first: in a caller's line, and among the lines that are new in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Oldest,
    Newest,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            round: 0,
            lines: HashMap::default(),
            turns: BTreeMap::default(),
            served: HashSet::default(),
            last: 0,
            len: 0,
        }
    }
}

impl<T> FairQueue<T> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, caller: CallerId, one: T) -> Ticket {
        let number = self.number();
        let turn = (self.round + u64::from(self.served.contains(&caller)), number);
        let line =
            self.lines.entry(caller).or_insert_with(|| Line { turn, waiting: BTreeMap::new() });
        line.waiting.insert(number, one);
        self.turns.insert(line.turn, caller);
        self.len += 1;
        Ticket { caller, number }
    }

    /// How many of this caller wait.
    pub(super) fn line(&self, caller: CallerId) -> usize {
        self.lines.get(&caller).map_or(0, |line| line.waiting.len())
    }

    /// Takes out the next one.
    pub(super) fn pop(&mut self, order: Order) -> Option<T> {
        let turn = self.next_turn(order)?;
        let caller = self.turns.remove(&turn)?;
        // Lines that go on keep their order among themselves, and come after those that are new.
        let number = match order {
            Order::Oldest => self.number(),
            Order::Newest => -self.number(),
        };
        let line = self.lines.get_mut(&caller)?;
        let (_, one) = match order {
            Order::Oldest => line.waiting.pop_first()?,
            Order::Newest => line.waiting.pop_last()?,
        };
        if turn.0 > self.round || self.served.len() == ROUND_MAX {
            self.round = turn.0.max(self.round + 1);
            self.served.clear();
        }
        if turn.0 == self.round {
            self.served.insert(caller);
        }
        line.turn = (turn.0 + 1, number);
        if line.waiting.is_empty() {
            self.lines.remove(&caller);
        } else {
            self.turns.insert(line.turn, caller);
        }
        self.one_less();
        Some(one)
    }

    /// Takes out one who leaves. `None`: it had its turn.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let line = self.lines.get_mut(&ticket.caller)?;
        let one = line.waiting.remove(&ticket.number)?;
        if line.waiting.is_empty() {
            self.turns.remove(&line.turn);
            self.lines.remove(&ticket.caller);
        }
        self.one_less();
        Some(one)
    }

    fn next_turn(&self, order: Order) -> Option<Turn> {
        let (&first, _) = self.turns.first_key_value()?;
        match order {
            Order::Oldest => Some(first),
            Order::Newest => Some(*self.turns.range(..(first.0 + 1, i64::MIN)).next_back()?.0),
        }
    }

    fn number(&mut self) -> i64 {
        self.last += 1;
        self.last
    }

    fn one_less(&mut self) {
        self.len -= 1;
        if self.len == 0 {
            self.served.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(queue: &mut FairQueue<(u64, u32)>, order: Order) -> Vec<(u64, u32)> {
        std::iter::from_fn(|| queue.pop(order)).collect()
    }

    fn queue(waiting: &[(u64, u32)]) -> FairQueue<(u64, u32)> {
        let mut queue = FairQueue::default();
        for &one in waiting {
            queue.push(CallerId::of_test(one.0), one);
        }
        queue
    }

    #[test]
    fn lines_take_turns_and_each_has_its_order() {
        let waiting = [(1, 0), (1, 1), (1, 2), (2, 3), (1, 4), (2, 5), (3, 6)];
        for (order, expected) in [
            (Order::Oldest, [(1, 0), (2, 3), (3, 6), (1, 1), (2, 5), (1, 2), (1, 4)]),
            (Order::Newest, [(3, 6), (2, 5), (1, 4), (2, 3), (1, 2), (1, 1), (1, 0)]),
        ] {
            assert_eq!(all(&mut queue(&waiting), order), expected, "{order:?}");
        }
    }

    #[test]
    fn whoever_comes_again_and_again_is_not_served_before_those_who_wait() {
        let mut queue = queue(&[(1, 0), (1, 1), (1, 2), (1, 3)]);
        let mut served = Vec::new();
        for _ in 0..4 {
            queue.push(CallerId::of_test(2), (2, 9));
            served.extend([queue.pop(Order::Oldest), queue.pop(Order::Oldest)].map(Option::unwrap));
        }
        assert_eq!(served.iter().filter(|one| one.0 == 1).count(), 4);
    }

    #[test]
    fn ever_new_callers_do_not_keep_those_who_have_had_a_turn_from_their_next_one() {
        for order in [Order::Oldest, Order::Newest] {
            let mut queue = queue(&[(0, 0), (0, 1), (0, 2)]);
            let mut turns = 0;
            for new in 1..4 * u32::try_from(ROUND_MAX).unwrap() {
                queue.push(CallerId::of_test(new.into()), (new.into(), 0));
                turns += u32::from(queue.pop(order).is_some_and(|(caller, _)| caller == 0));
                assert!(queue.served.len() <= ROUND_MAX);
            }
            assert_eq!(turns, 3, "{order:?}");
        }
    }

    #[test]
    fn one_who_has_left_is_left_out() {
        let mut queue = queue(&[(1, 0)]);
        let [second, third] = [1, 2].map(|one| queue.push(CallerId::of_test(2), (2, one)));
        assert_eq!(queue.remove(second), Some((2, 1)));
        assert_eq!(queue.remove(second), None);
        assert_eq!(queue.remove(third), Some((2, 2)));
        assert_eq!((queue.len(), all(&mut queue, Order::Oldest)), (1, vec![(1, 0)]));
        assert!(queue.lines.is_empty() && queue.turns.is_empty() && queue.served.is_empty());
    }

    #[test]
    fn whoever_had_no_turn_in_a_round_comes_before_those_who_have_their_next_one() {
        for order in [Order::Oldest, Order::Newest] {
            let mut queue = queue(&[(1, 0), (1, 1), (2, 2), (2, 3)]);
            let first = queue.pop(order).expect("one");
            queue.push(CallerId::of_test(9), (9, 4));
            queue.push(CallerId::of_test(0), (0, 5));
            queue.push(CallerId::of_test(first.0), (first.0, 6));
            let next = [(); 3].map(|()| queue.pop(order).expect("one").0);
            assert!(next.contains(&9) && next.contains(&0), "{order:?}: {first:?} {next:?}");
        }
    }

    proptest! {
        #[test]
        fn nobody_who_waits_has_two_turns_less_than_another(
            steps in proptest::collection::vec((0..4_u64, 0..3_u8, any::<bool>()), 1..300),
        ) {
            let (mut queue, mut tickets, mut waiting) = (FairQueue::default(), Vec::new(), 0);
            let mut turns: HashMap<u64, u32> = HashMap::new();
            for (caller, what, is_newest) in steps {
                match what {
                    0 => {
                        tickets.push(queue.push(CallerId::of_test(caller), caller));
                        waiting += 1;
                    }
                    1 => {
                        let gone = tickets.pop().and_then(|ticket| queue.remove(ticket));
                        waiting -= usize::from(gone.is_some());
                    }
                    _ => {
                        let order = if is_newest { Order::Newest } else { Order::Oldest };
                        let popped = queue.pop(order);
                        prop_assert_eq!(popped.is_some(), waiting > 0);
                        if let Some(caller) = popped {
                            waiting -= 1;
                            *turns.entry(caller).or_default() += 1;
                        }
                    }
                }
                // Counted anew from where a line is new.
                turns.retain(|caller, _| queue.lines.contains_key(&CallerId::of_test(*caller)));
                if turns.len() < queue.lines.len() {
                    turns = queue.lines.keys().map(|caller| (caller.number(), 0)).collect();
                }
                let (least, most) = (turns.values().min(), turns.values().max());
                prop_assert!(most.copied().unwrap_or(0) <= least.copied().unwrap_or(0) + 2);
                prop_assert_eq!((queue.len(), queue.turns.len()), (waiting, queue.lines.len()));
            }
        }
    }
}
