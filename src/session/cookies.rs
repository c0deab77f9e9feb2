use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use http::HeaderValue;

/// The cookies of a load balancer in front of the gateway. By them, it sends an agent's calls to
/// the node that owns the session (client).
///
/// All Guids of a session share them, since a renewal does not change the node. Bounded: a load
/// balancer sets one or two cookies, and those beyond the limits are ignored.
#[derive(Default)]
pub struct Cookies(Mutex<Jar>);

#[derive(Default)]
struct Jar {
    /// `name=value`, in the order in which they first came.
    pairs: Vec<String>,
    /// All of them as one request header. Built when they change, since calls are more frequent.
    header: Option<HeaderValue>,
}

const MAX_COOKIES: usize = 8;
const MAX_PAIR_LENGTH: usize = 1024;

impl Cookies {
    /// The value of the `Cookie` request header; marked as sensitive.
    pub fn header(&self) -> Option<HeaderValue> {
        self.jar().header.clone()
    }

    /// Takes the name and the value from a `Set-Cookie` response header. Its attributes are
    /// ignored.
    pub fn set(&self, set_cookie: &HeaderValue) {
        let Some(pair) = pair(set_cookie) else { return };
        let mut jar = self.jar();
        if jar.put(pair) {
            jar.header = HeaderValue::from_str(&jar.pairs.join("; ")).ok();
            if let Some(header) = &mut jar.header {
                header.set_sensitive(true);
            }
        }
    }

    fn jar(&self) -> std::sync::MutexGuard<'_, Jar> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Jar {
    /// Adds or replaces a cookie. Returns whether that changed anything.
    fn put(&mut self, pair: &str) -> bool {
        let full = self.pairs.len() == MAX_COOKIES;
        let name = pair.split('=').next();
        match self.pairs.iter_mut().find(|known| known.split('=').next() == name) {
            Some(known) if known == pair => return false,
            Some(known) => pair.clone_into(known),
            None if full => return false,
            None => self.pairs.push(pair.to_owned()),
        }
        true
    }
}

/// `name=value` of a `Set-Cookie` header.
fn pair(set_cookie: &HeaderValue) -> Option<&str> {
    let pair = set_cookie.to_str().ok()?.split(';').next()?.trim();
    let named = pair.split_once('=').is_some_and(|(name, _value)| !name.trim().is_empty());
    (named && pair.len() <= MAX_PAIR_LENGTH).then_some(pair)
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cookies({})", self.jar().pairs.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jar(headers: &[&str]) -> Option<String> {
        let cookies = Cookies::default();
        for header in headers {
            cookies.set(&HeaderValue::from_str(header).unwrap());
        }
        cookies.header().map(|header| header.to_str().unwrap().to_owned())
    }

    #[test]
    fn names_and_values_are_sent_back_without_attributes() {
        assert_eq!(jar(&[]), None);
        assert_eq!(jar(&["lb=1; Path=/; Secure"]).as_deref(), Some("lb=1"));
        assert_eq!(jar(&["lb=1", "x=2; HttpOnly", "lb=3"]).as_deref(), Some("lb=3; x=2"));
        assert_eq!(jar(&["novalue", "=x", ";", ""]), None);
    }

    #[test]
    fn a_flood_of_cookies_is_bounded() {
        let many: Vec<_> = (0..100).map(|n| format!("c{n}=v")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let sent = jar(&many).unwrap();
        assert_eq!(sent.split("; ").count(), MAX_COOKIES);
        assert_eq!(jar(&[&format!("big={}", "x".repeat(MAX_PAIR_LENGTH))]), None);
    }
}
