//! The limits of the gateways' hosts.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Patience, Usage,
    latencies::Latencies,
    places::{Place, Places},
};
use crate::{
    call::{Obstacle, Share},
    config::{self, HostLimit},
    gateway::{INTERFACES, Sample},
};

/// The limits of all gateway hosts. Tenants on the same host share its limit, also those of a later configuration.
#[derive(Debug)]
pub struct Hosts {
    limit: HostLimit,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
}

/// The limit of a gateway's host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) places: Arc<Places>,
    ceiling: NonZeroUsize,
    /// `None`: the limit is always the ceiling.
    latencies: Option<Latencies>,
    refused: AtomicU64,
}

/// How much of a host's limit is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostUsage {
    /// The host and its port.
    pub host: String,
    /// The places that are taken, and how many there are now.
    pub places: Usage,
    /// How many places there can be. `gateway.host_requests`.
    pub ceiling: usize,
    /// Requests that wait for a place.
    pub waiting: usize,
    /// Requests that got no place since the start.
    pub refused: u64,
}

/// Counts a request that ends without a place, also one that is dropped, as at its deadline.
struct Without<'a>(Option<&'a AtomicU64>);

impl Hosts {
    /// Limits each host like this.
    pub fn new(limit: HostLimit) -> Self {
        Self { limit, hosts: Mutex::default() }
    }

    /// The limit of each host.
    pub fn limit(&self) -> &HostLimit {
        &self.limit
    }

    /// How much of each host's limit is used, for hosts that a tenant has.
    pub fn usage(&self) -> Vec<HostUsage> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        forget_unused(&mut hosts);
        hosts.iter().map(|(name, host)| host.usage(name.clone())).collect()
    }

    /// The limits of the hosts of a tenant's gateway, in the order of its addresses.
    pub(super) fn of(&self, tenant: &config::Tenant) -> Box<[Arc<Host>]> {
        let host =
            |url: &http::Uri| self.host(url.authority().map_or("", http::uri::Authority::as_str));
        tenant.base_urls.iter().map(host).collect()
    }

    pub(super) fn host(&self, name: &str) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        // Not each time: thousands of tenants start one after the other.
        if hosts.len() == hosts.capacity() {
            forget_unused(&mut hosts);
        }
        let host = hosts.entry(name.to_owned()).or_insert_with(|| Arc::new(Host::new(self.limit)));
        host.clone()
    }
}

/// Forgets hosts that no tenant has any more.
fn forget_unused(hosts: &mut HashMap<String, Arc<Host>>) {
    hosts.retain(|_, host| Arc::strong_count(host) > 1);
}

impl Host {
    fn new(HostLimit { requests, is_adaptive }: HostLimit) -> Self {
        Self {
            places: Places::new(Share::HostRequests, requests),
            ceiling: requests,
            latencies: is_adaptive.then(|| Latencies::new(requests.get(), INTERFACES.len())),
            refused: AtomicU64::default(),
        }
    }

    /// Takes a place, or waits for one.
    pub(super) async fn take(&self, patience: Patience) -> Result<Place, Obstacle> {
        if let Some(place) = self.places.take_now() {
            return Ok(place);
        }
        self.press();
        // There may be no more answers that count, as while a gateway refuses all.
        self.look(Instant::now());
        let mut without = Without(Some(&self.refused));
        let place = self.places.take(patience, self.typical()).await;
        self.press();
        without.0 = place.is_err().then_some(&self.refused);
        place
    }

    /// Notes that a request for this host waits, or has waited until now.
    pub(super) fn press(&self) {
        if let Some(latencies) = &self.latencies {
            latencies.press();
        }
    }

    /// What a request usually takes, if that is known.
    pub(super) fn typical(&self) -> Option<Duration> {
        self.latencies.as_ref().and_then(Latencies::typical)
    }

    /// How many lower limits have been tried until now.
    pub(super) fn trials(&self) -> u32 {
        self.latencies.as_ref().map_or(0, Latencies::trials)
    }

    /// Takes in what became of a request through the interface of this number.
    pub(super) fn note(&self, interface: usize, trials: u32, sample: Sample) {
        let Some(latencies) = &self.latencies else { return };
        let (took, now) = match sample {
            Sample::Answered { sent, answered } => {
                (Some(answered.saturating_duration_since(sent)), answered)
            }
            Sample::TooMuch => (None, Instant::now()),
        };
        latencies.note(interface, trials, took);
        self.look(now);
    }

    /// Has the limit follow what has been noted, if it is time for that.
    fn look(&self, now: Instant) {
        if let Some(latencies) = &self.latencies
            && latencies.is_due(now)
            && let Some(limit) = latencies.look(now, || self.places.most_taken())
            && limit != self.places.limit()
        {
            self.places.resize(limit);
        }
    }

    fn usage(&self, host: String) -> HostUsage {
        HostUsage {
            host,
            places: self.places.usage(),
            ceiling: self.ceiling.get(),
            waiting: self.places.waiting(),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Without<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.0 {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
