//! For how long a gateway keeps an idle connection, by the `Keep-Alive` headers of its answers.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

/// What a gateway has said about the further use of a connection. Nothing, unless it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KeepAlive {
    /// For how long the connection may be idle, less a margin.
    idle: Option<Duration>,
    /// How many more requests it carries.
    requests: Option<u64>,
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// The gateway counts from when it wrote its answer, and closes the connection some time before the next
/// request arrives. A shorter time than twice this is halved.
const MARGIN: Duration = Duration::from_secs(1);

impl KeepAlive {
    /// Reads `timeout=5, max=100` as servers really write it: in any case, in quotes, with semicolons, or
    /// as a number alone. Ignores what it cannot read. If something is said twice, the smaller counts.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut read = Self::default();
        let values = headers.get_all(KEEP_ALIVE).iter().filter_map(|value| value.to_str().ok());
        for part in values.flat_map(|value| value.split([',', ';'])) {
            let (name, value) = part.split_once('=').unwrap_or(("timeout", part));
            let (name, number) = (name.trim(), number(value));
            if name.eq_ignore_ascii_case("timeout") {
                read.idle = smaller(read.idle, number.map(less_margin));
            } else if name.eq_ignore_ascii_case("max") {
                read.requests = smaller(read.requests, number);
            }
        }
        read
    }

    /// What holds after one more answer. `said` is what that one says.
    pub(super) fn after(self, said: Self) -> Self {
        Self {
            idle: said.idle.or(self.idle),
            requests: said.requests.or(self.requests.map(|requests| requests.saturating_sub(1))),
        }
    }

    /// Whether a connection that has been idle for this long may carry another request.
    pub(super) fn allows(self, idle: Duration) -> bool {
        self.idle.is_none_or(|limit| idle < limit) && self.requests != Some(0)
    }
}

fn smaller<T: Ord>(first: Option<T>, second: Option<T>) -> Option<T> {
    [first, second].into_iter().flatten().min()
}

fn less_margin(seconds: u64) -> Duration {
    let time = Duration::from_secs(seconds);
    time.saturating_sub(MARGIN.min(time / 2))
}

/// A number, perhaps in quotes, with a fraction (which is ignored), or with a unit of seconds.
fn number(text: &str) -> Option<u64> {
    let text = text.trim().trim_matches(['"', '\'']).trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at_checked(digits)?;
    let is_whole = rest.is_empty() || rest.starts_with(['.', 's', 'S']);
    (is_whole && !digits.is_empty()).then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(values: &[&str]) -> KeepAlive {
        let pairs = values.iter().map(|value| (KEEP_ALIVE, value.parse().expect("a value")));
        KeepAlive::read(&pairs.collect())
    }

    fn said(millis: Option<u64>, requests: Option<u64>) -> KeepAlive {
        KeepAlive { idle: millis.map(Duration::from_millis), requests }
    }

    #[test]
    fn hints_are_read_as_servers_write_them() {
        for (values, expected) in [
            (&[][..], said(None, None)),
            (&["timeout=5, max=100"], said(Some(4000), Some(100))),
            (&["timeout=2"], said(Some(1000), None)),
            (&["timeout=1"], said(Some(500), None)),
            (&["timeout=0"], said(Some(0), None)),
            (&["0"], said(Some(0), None)),
            (&[" TimeOut = \"5\" ;MAX='7'"], said(Some(4000), Some(7))),
            (&["timeout=5s", "max=3"], said(Some(4000), Some(3))),
            (&["timeout=0.9"], said(Some(0), None)),
            (&["timeout=60, timeout=5", "timeout=10"], said(Some(4000), None)),
            (&["timeout=5ms, timeout=-1, timeout=, timeout, =5, max=x, 5=max"], said(None, None)),
            (&["", ",;,", "=", "\t"], said(None, None)),
        ] {
            assert_eq!(read(values), expected, "{values:?}");
        }
        let huge = read(&["timeout=99999999999999999999999, max=99999999999999999999999"]);
        assert!(huge.allows(Duration::from_secs(u64::MAX / 2)));
    }

    proptest! {
        #[test]
        fn any_hint_is_read_or_ignored(text in "[ -~\\t]{0,40}", idle: Duration) {
            let said = read(&[&text, "timeout=3600, max=1"]);
            prop_assert!(!said.allows(Duration::from_secs(3600)));
            let _allows = said.after(said).allows(idle);
        }
    }

    #[test]
    fn a_connection_is_used_until_shortly_before_its_end() {
        let hint = read(&["timeout=5"]);
        assert!(hint.allows(Duration::from_millis(3999)));
        assert!(!hint.allows(Duration::from_secs(4)));
        assert!(!read(&["timeout=0"]).allows(Duration::ZERO));
        assert!(KeepAlive::default().allows(Duration::MAX));
    }

    #[test]
    fn requests_are_counted_down_until_the_gateway_says_another_number() {
        let mut kept = KeepAlive::default().after(read(&["timeout=5, max=2"]));
        for allowed in [true, true, false, false] {
            assert_eq!(kept.allows(Duration::ZERO), allowed);
            kept = kept.after(KeepAlive::default());
        }
        let more = kept.after(read(&["max=1"]));
        assert!(more.allows(Duration::ZERO));
        assert!(!more.allows(Duration::from_secs(4)), "the time still holds");
    }
}
