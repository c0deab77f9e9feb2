mod lifetime;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use http::HeaderValue;
use secrecy::zeroize::Zeroizing;
use tokio::time::Instant;

use self::lifetime::lifetime;
use crate::secret;

/// The cookies of a load balancer in front of the gateway. By them, it sends an agent's calls to
/// the node that owns the session (client).
///
/// All Guids of a session share them, since a renewal does not change the node: a clone has what is set later
/// too. Clones that were made before the first cookie do not share it. So a late answer to an older Guid, or a call that goes
/// on while its sign-in is still being stored, may set one that the other lacks, until the load balancer sets it again.
/// Bounded: a load balancer sets one or two cookies, and those beyond the limits are ignored.
///
/// Each session has a value of this type, and most gateways set no cookies: then it takes little memory.
#[derive(Clone, Default)]
pub struct Cookies(OnceLock<Arc<Mutex<Jar>>>);

#[derive(Default)]
struct Jar {
    /// In the order in which they first came.
    cookies: Vec<Cookie>,
    /// All of them as one request header. Built when they change, since calls are more frequent.
    header: Option<HeaderValue>,
    /// When the first of them expires.
    first_end: Option<Instant>,
}

struct Cookie {
    /// `name=value`.
    pair: Zeroizing<String>,
    /// When it expires. `None` for a cookie that lasts as long as the session.
    end: Option<Instant>,
}

const MAX_COOKIES: usize = 8;
const MAX_PAIR_LENGTH: usize = 1024;

impl Cookies {
    /// The value of the `Cookie` request header; marked as sensitive. It has no cookie that has
    /// expired.
    pub fn header(&self) -> Option<HeaderValue> {
        let mut jar = lock(self.0.get()?);
        jar.drop_expired();
        jar.header.clone()
    }

    /// Takes a cookie from a `Set-Cookie` response header. One that has expired replaces the cookie of
    /// this name by none. Other attributes than `Max-Age` and `Expires` are ignored. `date` is the
    /// answer's `Date` header, since `Expires` is a time by the clock of whoever sets the cookie.
    pub fn set(&self, set_cookie: &HeaderValue, date: Option<&HeaderValue>) {
        let Some((pair, attributes)) = parts(set_cookie) else { return };
        let lifetime = lifetime(attributes, date.and_then(|date| date.to_str().ok()));
        let mut jar = lock(self.0.get_or_init(Arc::default));
        jar.drop_expired();
        let has_changed = if lifetime.is_some_and(|left| left.is_zero()) {
            jar.remove(name(pair))
        } else {
            // One that ends too late for the clock does not end.
            let end = lifetime.and_then(|left| Instant::now().checked_add(left));
            pair.len() <= MAX_PAIR_LENGTH && jar.put(pair, end)
        };
        if has_changed {
            jar.write_header();
        }
    }
}

fn lock(jar: &Mutex<Jar>) -> MutexGuard<'_, Jar> {
    jar.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Jar {
    /// Adds or replaces a cookie. Returns whether that changed anything.
    fn put(&mut self, pair: &str, end: Option<Instant>) -> bool {
        let full = self.cookies.len() == MAX_COOKIES;
        match self.cookies.iter_mut().find(|known| name(&known.pair) == name(pair)) {
            Some(known) if known.pair.as_str() == pair && known.end == end => return false,
            Some(known) => {
                known.pair = Zeroizing::new(pair.to_owned());
                known.end = end;
            }
            None if full => return false,
            None => self.cookies.push(Cookie { pair: Zeroizing::new(pair.to_owned()), end }),
        }
        true
    }

    /// Returns whether there was a cookie of this name.
    fn remove(&mut self, removed: &str) -> bool {
        let before = self.cookies.len();
        self.cookies.retain(|known| name(&known.pair) != removed);
        self.cookies.len() < before
    }

    fn drop_expired(&mut self) {
        let Some(first_end) = self.first_end else { return };
        let now = Instant::now();
        if first_end <= now {
            self.cookies.retain(|known| known.end.is_none_or(|end| end > now));
            self.write_header();
        }
    }

    fn write_header(&mut self) {
        let pairs: Vec<_> = self.cookies.iter().map(|known| known.pair.as_str()).collect();
        let pairs = Zeroizing::new(pairs.join("; "));
        self.header = secret::header(pairs.as_bytes()).filter(|header| !header.is_empty());
        self.first_end = self.cookies.iter().filter_map(|known| known.end).min();
    }
}

/// `name=value` of a `Set-Cookie` header, and its attributes.
fn parts(set_cookie: &HeaderValue) -> Option<(&str, &str)> {
    let text = set_cookie.to_str().ok()?;
    let (pair, attributes) = text.split_once(';').unwrap_or((text, ""));
    let pair = pair.trim();
    let is_named = pair.split_once('=').is_some_and(|(name, _value)| !name.trim().is_empty());
    is_named.then_some((pair, attributes))
}

/// The name of a cookie.
fn name(pair: &str) -> &str {
    pair.split('=').next().unwrap_or_default().trim()
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cookies({})", self.0.get().map_or(0, |jar| lock(jar).cookies.len()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    fn sent(cookies: &Cookies) -> Option<String> {
        cookies.header().map(|header| header.to_str().unwrap().to_owned())
    }

    fn jar(headers: &[&str]) -> Option<String> {
        let cookies = Cookies::default();
        for header in headers {
            cookies.set(&HeaderValue::from_str(header).unwrap(), None);
        }
        sent(&cookies)
    }

    #[test]
    fn names_and_values_are_sent_back_without_attributes() {
        assert_eq!(jar(&[]), None);
        assert_eq!(jar(&["lb=1; Path=/; Secure"]).as_deref(), Some("lb=1"));
        assert_eq!(jar(&["lb=1", "x=2; HttpOnly", "lb=3"]).as_deref(), Some("lb=3; x=2"));
        assert_eq!(jar(&["novalue", "=x", ";", ""]), None);
    }

    #[test]
    fn all_guids_of_a_session_share_its_cookies() {
        let first = Cookies::default();
        first.set(&HeaderValue::from_static("a=1"), None);
        let second = first.clone();
        second.set(&HeaderValue::from_static("b=2"), None);
        assert_eq!(sent(&first).as_deref(), Some("a=1; b=2"));
    }

    #[test]
    fn a_flood_of_cookies_is_bounded() {
        let many: Vec<_> = (0..100).map(|n| format!("c{n}=v")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let sent = jar(&many).unwrap();
        assert_eq!(sent.split("; ").count(), MAX_COOKIES);
        assert_eq!(jar(&[&format!("big={}", "x".repeat(MAX_PAIR_LENGTH))]), None);
    }

    #[test]
    fn an_expired_cookie_removes_the_one_that_is_held() {
        let long = format!("lb={}; Max-Age=0", "x".repeat(MAX_PAIR_LENGTH));
        for expired in
            ["lb=; Max-Age=0", "lb=1;max-age=-5", "lb =x; Expires=Thu, 01-Jan-70 0:0:0", &long]
        {
            assert_eq!(jar(&["lb=1", "x=2", expired]).as_deref(), Some("x=2"), "{expired}");
            assert_eq!(jar(&["lb=1", expired]), None, "{expired}");
            assert_eq!(jar(&["lb=1", expired, "lb=3"]).as_deref(), Some("lb=3"), "{expired}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cookie_is_sent_until_it_expires() {
        let cookies = Cookies::default();
        for cookie in
            ["a=1; Max-Age=60", "b=2", "c=3; Max-Age=30", "d=4; Max-Age=99999999999999999999"]
        {
            cookies.set(&HeaderValue::from_static(cookie), None);
        }
        assert_eq!(sent(&cookies).as_deref(), Some("a=1; b=2; c=3; d=4"));
        advance(Duration::from_secs(30)).await;
        assert_eq!(sent(&cookies).as_deref(), Some("a=1; b=2; d=4"));
        cookies.set(&HeaderValue::from_static("a=1; Max-Age=60"), None);
        advance(Duration::from_secs(59)).await;
        assert_eq!(sent(&cookies).as_deref(), Some("a=1; b=2; d=4"), "its time was renewed");
        advance(Duration::from_secs(1)).await;
        assert_eq!(sent(&cookies).as_deref(), Some("b=2; d=4"));
        assert_eq!(format!("{cookies:?}"), "Cookies(2)");
    }
}
