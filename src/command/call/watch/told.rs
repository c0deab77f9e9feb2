use std::collections::VecDeque;

/// The causes that a watch has told since it last went on: where several come in turns, each is told once.
#[derive(Default)]
pub(super) struct Told(VecDeque<String>);

/// So many causes are remembered. The one that was told first is forgotten first.
const TOLD_MAX: usize = 16;

impl Told {
    /// Whether this cause is to be told. It counts as told then.
    pub(super) fn is_news(&mut self, cause: &str) -> bool {
        let is_news = !self.0.iter().any(|told| told == cause);
        if is_news {
            self.0.push_front(cause.to_owned());
            self.0.truncate(TOLD_MAX);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_that_come_in_turns_are_told_once() {
        let mut told = Told::default();
        for is_first in [true, false, false] {
            for cause in ["refused", "no route"] {
                assert_eq!(told.is_news(cause), is_first, "{cause}");
            }
        }
    }

    #[test]
    fn of_very_many_causes_only_the_last_are_remembered() {
        let mut told = Told::default();
        for number in 0..=TOLD_MAX {
            assert!(told.is_news(&number.to_string()));
        }
        assert_eq!(told.0.len(), TOLD_MAX);
        assert!(!told.is_news("1"), "it is among the last");
        assert!(told.is_news("0"), "it was forgotten");
    }
}
