//! Failures and refusals that have much in common are one, so that a storm of one kind hides no other.

use std::{cmp::Reverse, collections::BTreeMap, time::SystemTime};

use serde::Serialize;

use super::Failure;

/// Calls of one tenant and method that failed or were refused for one reason, with one retcode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailureGroup {
    /// The last one of them.
    #[serde(flatten)]
    pub last: Failure,
    /// Whether they were refused: because of what they asked for, because of the agent's state, or because their caller
    /// had used up its own part of a limit. Otherwise they failed because of a gateway, the bridge or a full limit.
    pub refused: bool,
    /// How many there were.
    pub count: u64,
    /// When the first one was answered.
    #[serde(serialize_with = "crate::time::as_rfc3339")]
    pub first_time: SystemTime,
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups(Vec<FailureGroup>);

/// The most groups, of all tenants. Each takes less than 1 KB.
const MOST: usize = 256;

impl Groups {
    pub(super) fn add(&mut self, failure: Failure, refused: bool) {
        let is_same =
            |group: &&mut FailureGroup| group.refused == refused && is_same(&group.last, &failure);
        if let Some(group) = self.0.iter_mut().find(is_same) {
            group.count += 1;
            group.last = failure;
            return;
        }
        if self.0.len() >= MOST
            && let Some(index) = self.dispensable()
        {
            self.0.swap_remove(index);
        }
        let first_time = failure.time;
        self.0.push(FailureGroup { last: failure, refused, count: 1, first_time });
    }

    /// The oldest group of the tenant that has most. A gateway may send new retcodes again and again, and that must not
    /// hide the failures of other tenants.
    fn dispensable(&self) -> Option<usize> {
        let mut sizes = BTreeMap::<&str, usize>::new();
        for group in &self.0 {
            *sizes.entry(&group.last.tenant).or_default() += 1;
        }
        let size = |group: &FailureGroup| sizes.get(&*group.last.tenant).copied();
        let groups = self.0.iter().enumerate();
        let oldest = groups.min_by_key(|(_, group)| (Reverse(size(group)), group.last.time));
        oldest.map(|(index, _)| index)
    }

    pub(super) fn newest_first(&self) -> Vec<FailureGroup> {
        let mut groups = self.0.clone();
        groups.sort_by_key(|group| Reverse(group.last.time));
        groups
    }
}

fn is_same(one: &Failure, other: &Failure) -> bool {
    one.tenant == other.tenant
        && one.method == other.method
        && one.reason == other.reason
        && one.retcode == other.retcode
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::Outcome;

    fn failure(tenant: &str, second: u64, retcode: &str) -> Failure {
        Failure {
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            tenant: tenant.into(),
            method: "SetBusy",
            code: "INTERNAL",
            reason: "GATEWAY_OPERATION_FAILED".into(),
            outcome: Outcome::Refused,
            retcode: Some(retcode.into()),
            error: format!("at {second}"),
            gateway_message: None,
        }
    }

    #[test]
    fn what_is_alike_is_counted_with_its_first_time_and_its_last_words() {
        let mut groups = Groups::default();
        for (tenant, second, retcode) in
            [("acme", 1, "1"), ("acme", 2, "2"), ("other", 3, "1"), ("acme", 4, "1")]
        {
            groups.add(failure(tenant, second, retcode), false);
        }
        let groups = groups.newest_first();
        let told: Vec<_> = groups.iter().map(|one| (&*one.last.tenant, one.count)).collect();
        assert_eq!(told, [("acme", 2), ("other", 1), ("acme", 1)]);
        assert_eq!(
            (&*groups[0].last.error, groups[0].first_time),
            ("at 4", failure("", 1, "").time)
        );
    }

    #[test]
    fn a_gateway_that_makes_up_retcodes_hides_no_failure_of_another_tenant() {
        let mut groups = Groups::default();
        groups.add(failure("quiet", 0, "1"), false);
        for second in 1..1_000 {
            groups.add(failure("loud", second, &second.to_string()), false);
        }
        let kept = groups.newest_first();
        assert_eq!(kept.len(), MOST);
        assert_eq!(kept.last().map(|group| &*group.last.tenant), Some("quiet"));
        assert_eq!(kept.first().map(|group| &*group.last.error), Some("at 999"));
    }
}
