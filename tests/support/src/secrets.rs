//! What no bridge of any test may show: its log, its pages, what it exports, and its errors are searched for it.

use std::{fmt::Write as _, thread::panicking};

use tokio::sync::watch;

use crate::PASSWORD;

/// Which [`key`] is in the file `store.key` of a [`Site`](crate::Site).
pub const STORE_KEY: u8 = 0x5a;

/// A key for a store. There is another one for each number.
pub fn key(number: u8) -> [u8; 32] {
    let mut at = 0_u8;
    [(); 32].map(|()| {
        at += 1;
        number ^ at.wrapping_mul(at).wrapping_add(1)
    })
}

/// The same as digits.
pub fn key_hex(number: u8) -> String {
    key(number).iter().fold(String::new(), |mut digits, byte| {
        let _written = write!(digits, "{byte:02x}");
        digits
    })
}

/// What a program has logged so far. It is searched for secrets when the test drops it.
#[derive(Debug)]
pub(crate) struct Logged(pub(crate) watch::Receiver<String>);

impl Drop for Logged {
    fn drop(&mut self) {
        // A second panic would end all tests, and hide why this one has failed.
        if !panicking() {
            hides_secrets("the log", &self.0.borrow());
        }
    }
}

/// Asserts that a text has no password of a test's agents, no Guid, no token, and no key.
#[track_caller]
pub fn hides_secrets(what: &str, text: &str) {
    let found = [
        text.find(PASSWORD),
        text.find(&key_hex(STORE_KEY)),
        text.find("PRIVATE KEY-----"),
        text.match_indices('-').find_map(|(at, _)| guid(text, at)),
        // The claims of a token are JSON too, in base64.
        text.match_indices(".eyJ").find_map(|(at, _)| head_of_token(text, at)),
    ];
    let found = found.into_iter().flatten().min();
    let shown = found.map(|at| text.get(at.saturating_sub(200)..(at + 100).min(text.len())));
    assert_eq!(shown, None, "{what} shows a secret");
}

/// Where the secret part of a Guid begins whose first dash is here.
fn guid(text: &str, dash: usize) -> Option<usize> {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    let start = dash.checked_sub(GROUPS[0])?;
    let groups = text.as_bytes().get(start..start + 36)?.split(|byte| *byte == b'-');
    let is_group =
        |group: &[u8], length| group.len() == length && group.iter().all(u8::is_ascii_hexdigit);
    let fits = groups.clone().count() == GROUPS.len()
        && groups.zip(GROUPS).all(|(group, length)| is_group(group, length));
    fits.then_some(start)
}

/// Where a token's head begins that ends with this dot.
fn head_of_token(text: &str, dot: usize) -> Option<usize> {
    let start = dot.checked_sub(8)?;
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    text.as_bytes().get(start..dot)?.iter().all(is_digit).then_some(start)
}
