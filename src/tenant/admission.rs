//! The limits of calls and requests: of each tenant, and of each gateway host for all tenants
//! together.
//!
//! The connection pool has no bound of its own. Without these limits, thousands of connections
//! would be opened to a gateway that does not answer for two seconds.

use std::{
    collections::HashMap,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::{ServerCalls, agents::Turn, pool::Pool};
use crate::{
    call::{Obstacle, Share},
    config,
    gateway::{Closing, Seat},
    id::TenantId,
};

/// The limits of all gateway hosts. Tenants on the same host share its limit.
#[derive(Debug)]
pub struct Hosts {
    requests: NonZeroUsize,
    shares: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// One tenant's limits.
#[derive(Debug)]
pub(super) struct Admission {
    /// The server's places for calls: the tenant's own, and the common ones.
    server: [Pool; 2],
    calls: Pool,
    requests: Pool,
    /// The limits of the gateway's hosts, in the order of the gateway's addresses.
    hosts: Box<[Pool]>,
    /// Counts the calls from their arrival to their end, for whoever waits for the last one. A batch is one
    /// call, and has a place among the tenant's calls for each agent in turn, and one while it waits for
    /// confirmations.
    open: TaskTracker,
}

/// A place among the server's calls; released when dropped.
#[derive(Debug)]
pub struct ServerPlace {
    _place: OwnedSemaphorePermit,
    _open: TaskTrackerToken,
}

/// A place among the tenant's calls; released when it and its clones are dropped.
#[derive(Clone, Debug)]
pub struct CallPlace {
    _own: Arc<OwnedSemaphorePermit>,
}

/// A place among the requests to the gateway; released when dropped.
#[derive(Debug)]
pub(super) struct RequestPlace {
    _own: OwnedSemaphorePermit,
    host: HostPlace,
}

/// A place among the requests to a gateway's host.
#[derive(Debug)]
struct HostPlace {
    /// The index of the address whose host it is.
    address: usize,
    /// `None` after the place was released and no place at another address was free in time.
    place: Option<OwnedSemaphorePermit>,
}

/// Exchanges a request's place when the request goes to an address with another host.
#[derive(Debug)]
pub(super) struct HostSeat<'a> {
    admission: &'a Admission,
    wait: Duration,
    request: Option<&'a mut RequestPlace>,
    turn: &'a mut Turn,
}

/// How much of a limit is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What the places are for.
    pub resource: Resource,
    /// Places that there are.
    pub limit: usize,
    /// How many places are taken.
    pub taken: usize,
}

/// How much a tenant uses of each of its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantUsage {
    /// Its calls.
    pub calls: Usage,
    /// Its requests to the gateway.
    pub requests: Usage,
    /// Its callers who watch events.
    pub watches: Usage,
    /// The requests that its batches have open.
    pub batches: Usage,
    /// Its sessions.
    pub sessions: Usage,
}

/// What the places of a limit are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A share: calls are refused when it is used up.
    Share(Share),
    /// The requests of a tenant that its batches may have open.
    BatchRequests,
    /// Callers' connections that are served.
    Connections,
    /// Handshakes of callers' connections that are under way.
    Handshakes,
    /// Connections that have ended, and whose peers may still be reading.
    LingeringConnections,
    /// Answers that callers have not read.
    UnreadAnswers,
    /// Callers that watch the bridge's health.
    HealthWatches,
}

// === impl Hosts ===

impl Hosts {
    /// Limits each host to this many requests at once.
    pub fn new(requests: NonZeroUsize) -> Self {
        Self { requests, shares: Mutex::default() }
    }

    /// How much of each host's limit is used, for hosts that a tenant has.
    pub fn usage(&self) -> Vec<(String, Usage)> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        forget_unused(&mut shares);
        let usage =
            |places: &Semaphore| Usage::of(Share::HostRequests, self.requests.get(), places);
        shares.iter().map(|(host, places)| (host.clone(), usage(places))).collect()
    }

    /// The limits of the hosts of a tenant's gateway, in the order of its addresses.
    fn of(&self, tenant: &config::Tenant) -> Box<[Pool]> {
        let host =
            |url: &http::Uri| self.share(url.authority().map_or("", http::uri::Authority::as_str));
        tenant.base_urls.iter().map(host).collect()
    }

    fn share(&self, host: &str) -> Pool {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        forget_unused(&mut shares);
        let places = shares
            .entry(host.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(self.requests.get())))
            .clone();
        Pool::of(Share::HostRequests, self.requests, places)
    }
}

/// Forgets hosts that no tenant has any more.
fn forget_unused(shares: &mut HashMap<String, Arc<Semaphore>>) {
    shares.retain(|_, places| Arc::strong_count(places) > 1);
}

// === impl Admission ===

impl Admission {
    pub(super) fn new(
        id: &TenantId,
        tenant: &config::Tenant,
        server: &ServerCalls,
        hosts: &Hosts,
    ) -> Self {
        let limits = &tenant.limits;
        Self {
            server: server.parts(id),
            calls: Pool::new(Share::TenantCalls, limits.calls),
            requests: Pool::new(Share::TenantRequests, limits.requests),
            hosts: hosts.of(tenant),
            open: TaskTracker::new(),
        }
    }

    /// These limits for the gateway of another configuration. Places are common to both.
    pub(super) fn changed(&self, tenant: &config::Tenant, hosts: &Hosts) -> Self {
        let (calls, requests) = (self.calls.clone(), self.requests.clone());
        let (server, open) = (self.server.clone(), self.open.clone());
        Self { server, calls, requests, hosts: hosts.of(tenant), open }
    }

    /// Changes the tenant's own limits.
    pub(super) fn resize(&self, limits: &config::Limits) {
        self.calls.resize(limits.calls);
        self.requests.resize(limits.requests);
    }

    /// How many more calls the tenant may have.
    #[cfg(test)]
    pub(super) fn free_calls(&self) -> usize {
        self.calls.free()
    }

    /// Waits until the tenant has no call.
    pub(super) async fn without_calls(&self) {
        self.open.close();
        self.open.wait().await;
    }

    /// Takes a place among the server's calls, without waiting: one of the tenant's own, or else
    /// one of the common places.
    pub(super) fn enter_server(&self) -> Result<ServerPlace, Obstacle> {
        let [own, common] = &self.server;
        let place = own.take_now().or_else(|_| common.take_now())?;
        Ok(ServerPlace { _place: place, _open: self.open.token() })
    }

    /// How much of the tenant's own limits is used.
    pub(super) fn usage(&self) -> [Usage; 2] {
        [&self.calls, &self.requests].map(Pool::usage)
    }

    /// Takes a place among the tenant's calls, without waiting.
    pub(super) fn enter(&self) -> Result<CallPlace, Obstacle> {
        Ok(CallPlace { _own: self.calls.take_now()?.into() })
    }

    /// Takes a place among the tenant's requests and one among the requests to the host of
    /// `address`. Waits at most `wait` for each of the two.
    pub(super) async fn request(
        &self,
        address: usize,
        wait: Duration,
    ) -> Result<RequestPlace, Obstacle> {
        // In this order, so that a tenant which waits for its own limit holds no place of the host.
        let own = self.requests.take(wait).await?;
        let place = match self.hosts.get(address) {
            Some(host) => Some(host.take(wait).await?),
            None => None,
        };
        Ok(RequestPlace { _own: own, host: HostPlace { address, place } })
    }

    /// What moves a request's place to the host of each address that the request goes to. It waits
    /// at most `wait` for a place at the next host.
    pub(super) fn seat<'a>(
        &'a self,
        request: Option<&'a mut RequestPlace>,
        turn: &'a mut Turn,
        wait: Duration,
    ) -> HostSeat<'a> {
        HostSeat { admission: self, wait, request, turn }
    }
}

// === impl HostSeat ===

impl Seat for HostSeat<'_> {
    async fn move_to(&mut self, address: usize) -> Result<(), Obstacle> {
        let Some(RequestPlace { host, .. }) = &mut self.request else { return Ok(()) };
        if host.address == address && host.place.is_some() {
            return Ok(());
        }
        let hosts = &self.admission.hosts;
        let (Some(former), Some(next)) = (hosts.get(host.address), hosts.get(address)) else {
            return Ok(());
        };
        if host.place.is_none() || !former.is_same(next) {
            // Released first, so that no request waits for a place while it holds another
            // (deadlock).
            host.place = None;
            host.place = Some(next.take(self.wait).await?);
        }
        host.address = address;
        Ok(())
    }

    fn given_up(&mut self, closing: Closing) {
        self.turn.hold_for(closing);
    }
}

// === impl Usage ===

impl Usage {
    /// The usage of a semaphore that has `limit` permits.
    pub fn of(share: Share, limit: usize, places: &Semaphore) -> Self {
        let taken = limit.saturating_sub(places.available_permits());
        Self { resource: Resource::Share(share), limit, taken }
    }
}

// === impl TenantUsage ===

impl TenantUsage {
    /// Each of them, in the order in which they are shown.
    pub fn all(&self) -> [Usage; 5] {
        let Self { calls, requests, watches, batches, sessions } = *self;
        [calls, requests, watches, batches, sessions]
    }

    /// How many calls have no request open: they wait for the agent's turn, for a place among the requests, or
    /// for the event that confirms a change.
    pub fn waiting_calls(&self) -> usize {
        self.calls.taken.saturating_sub(self.requests.taken)
    }
}

// === impl Resource ===

impl Resource {
    /// The spelling in metrics and on the admin port.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Share(share) => share.as_str(),
            Self::BatchRequests => "batch_requests",
            Self::Connections => "connections",
            Self::Handshakes => "handshakes",
            Self::LingeringConnections => "lingering_connections",
            Self::UnreadAnswers => "unread_answers",
            Self::HealthWatches => "health_watches",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
