//! Addresses whose connections were lately ended for what they sent.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::tenant::address_block;

/// Addresses that lately flooded a connection or broke a rule of HTTP/2. Their new connections may send little at
/// once: whoever loses a connection and comes again has otherwise a whole budget each time.
#[derive(Debug, Default)]
pub(super) struct Misbehaved(Mutex<HashMap<IpAddr, Instant>>);

const LATELY: Duration = Duration::from_secs(10);
/// More addresses are not remembered. Those of one IPv6 network count as one.
const REMEMBERED: usize = 1024;

impl Misbehaved {
    /// Notes that a connection of this address was ended for what it sent.
    pub(super) fn note(&self, peer: IpAddr) {
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|_, at| now.saturating_duration_since(*at) < LATELY);
        }
        if known.len() < REMEMBERED {
            known.insert(address_block(peer), now);
        }
    }

    /// Whether that was so within the last seconds.
    pub(super) fn has(&self, peer: IpAddr) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&address_block(peer)).is_some_and(|at| at.elapsed() < LATELY)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_is_remembered_for_some_seconds_with_its_network() {
        let misbehaved = Misbehaved::default();
        let [one, neighbour, other] = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"];
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        misbehaved.note(at(one));
        assert_eq!([one, neighbour, other].map(|it| misbehaved.has(at(it))), [true, true, false]);
        tokio::time::advance(LATELY).await;
        assert!(!misbehaved.has(at(one)));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_addresses_are_remembered_than_that() {
        let misbehaved = Misbehaved::default();
        let peer = |number: u32| IpAddr::from(Ipv4Addr::from_bits(number));
        let count = u32::try_from(REMEMBERED).unwrap();
        (0..2 * count).for_each(|number| misbehaved.note(peer(number)));
        assert_eq!(misbehaved.0.lock().unwrap().len(), REMEMBERED);
        assert!(misbehaved.has(peer(0)) && !misbehaved.has(peer(count)));
        tokio::time::advance(LATELY).await;
        misbehaved.note(peer(count));
        assert_eq!(misbehaved.0.lock().unwrap().len(), 1);
        assert!(misbehaved.has(peer(count)));
    }
}
