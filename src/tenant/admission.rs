//! How much of the bridge a tenant may take, and how much of a gateway host all tenants together.
//!
//! The connection pool has no bound of its own: without this, a gateway that stands still for two
//! seconds would be met with thousands of new connections.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    call::{CallError, Share},
    config,
};

/// The shares of all gateway hosts, so that tenants on the same host share one.
#[derive(Debug)]
pub struct Hosts {
    in_flight: NonZeroUsize,
    shares: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// One tenant's share.
#[derive(Debug)]
pub(super) struct Admission {
    calls: Pool,
    requests: Pool,
    host: Pool,
}

/// A place among the tenant's calls; given back when dropped.
#[derive(Debug)]
pub(super) struct CallPlace {
    _own: OwnedSemaphorePermit,
}

/// A place among the requests to the gateway; given back when dropped.
#[derive(Debug)]
pub(super) struct RequestPlace {
    _own: OwnedSemaphorePermit,
    _host: OwnedSemaphorePermit,
}

/// How much of a share is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Which one, as metrics spell it.
    pub share: &'static str,
    /// Places that there are.
    pub limit: usize,
    /// Places that are taken.
    pub taken: usize,
}

#[derive(Debug)]
struct Pool {
    share: Share,
    limit: NonZeroUsize,
    places: Arc<Semaphore>,
}

// === impl Hosts ===

impl Hosts {
    /// Shares of `in_flight` requests at once for each host.
    pub fn new(in_flight: NonZeroUsize) -> Self {
        Self { in_flight, shares: Mutex::default() }
    }

    /// How much of each host's share is taken.
    pub fn usage(&self) -> Vec<(String, Usage)> {
        let shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let usage = |places: &Semaphore| Usage::of("requests", self.in_flight.get(), places);
        shares.iter().map(|(host, places)| (host.clone(), usage(places))).collect()
    }

    fn share(&self, host: &str) -> Pool {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let places = shares
            .entry(host.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(self.in_flight.get())))
            .clone();
        Pool { share: Share::HostRequests, limit: self.in_flight, places }
    }
}

// === impl Admission ===

impl Admission {
    pub(super) fn new(tenant: &config::Tenant, hosts: &Hosts) -> Self {
        // A tenant's addresses are one gateway; its first one stands for it.
        let host = tenant.base_urls.first().and_then(http::Uri::authority);
        let limits = &tenant.limits;
        Self {
            calls: Pool::new(Share::TenantCalls, limits.calls),
            requests: Pool::new(Share::TenantRequests, limits.in_flight),
            host: hosts.share(host.map_or("", http::uri::Authority::as_str)),
        }
    }

    /// The tenant's own shares.
    pub(super) fn usage(&self) -> [Usage; 2] {
        [("calls", &self.calls), ("requests", &self.requests)]
            .map(|(share, pool)| Usage::of(share, pool.limit.get(), &pool.places))
    }

    /// A place among the tenant's calls, at once or not at all.
    pub(super) fn enter(&self) -> Result<CallPlace, CallError> {
        Ok(CallPlace { _own: self.calls.take_now()? })
    }

    /// A place among the requests to the gateway, after `wait` at most for each of its shares.
    pub(super) async fn request(&self, wait: Duration) -> Result<RequestPlace, CallError> {
        // In this order, so that a tenant whose own share is used up holds none of the host's.
        let own = self.requests.take(wait).await?;
        let host = self.host.take(wait).await?;
        Ok(RequestPlace { _own: own, _host: host })
    }
}

// === impl Usage ===

impl Usage {
    /// Of a share with so many places.
    pub fn of(share: &'static str, limit: usize, places: &Semaphore) -> Self {
        Self { share, limit, taken: limit.saturating_sub(places.available_permits()) }
    }
}

// === impl Pool ===

impl Pool {
    fn new(share: Share, limit: NonZeroUsize) -> Self {
        Self { share, limit, places: Arc::new(Semaphore::new(limit.get())) }
    }

    fn used_up(&self) -> CallError {
        CallError::Overloaded { share: self.share, limit: self.limit }
    }

    fn take_now(&self) -> Result<OwnedSemaphorePermit, CallError> {
        self.places.clone().try_acquire_owned().map_err(|_| self.used_up())
    }

    async fn take(&self, wait: Duration) -> Result<OwnedSemaphorePermit, CallError> {
        // Most of the time there is a place, and no need for a timer.
        if let Ok(place) = self.take_now() {
            return Ok(place);
        }
        match timeout(wait, self.places.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(self.used_up()),
        }
    }
}
