//! The limits of calls and requests: of each tenant, and of each gateway host for all tenants
//! together.
//!
//! The connection pool has no bound of its own. Without these limits, thousands of connections
//! would be opened to a gateway that does not answer for two seconds.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::agents::Turn;
use crate::{
    call::{Obstacle, Share},
    config::{self, Division},
    gateway::{Closing, Seat},
    id::TenantId,
};

/// The limits of all gateway hosts. Tenants on the same host share its limit.
#[derive(Debug)]
pub struct Hosts {
    requests: NonZeroUsize,
    shares: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// The server's places for calls. Each tenant has a part for itself, and the rest is common to all.
/// So a call is refused only if its tenant's part and the common part are both used up.
#[derive(Debug)]
pub struct ServerCalls {
    division: Division,
    own: BTreeMap<TenantId, Arc<Semaphore>>,
    common: Arc<Semaphore>,
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
}

/// A place among the server's calls; released when dropped.
#[derive(Debug)]
pub struct ServerPlace {
    _place: OwnedSemaphorePermit,
}

/// A place among the tenant's calls; released when dropped.
#[derive(Debug)]
pub(super) struct CallPlace {
    _own: OwnedSemaphorePermit,
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

#[derive(Debug)]
struct Pool {
    share: Share,
    limit: NonZeroUsize,
    places: Arc<Semaphore>,
}

// === impl Hosts ===

impl Hosts {
    /// Limits each host to this many requests at once.
    pub fn new(requests: NonZeroUsize) -> Self {
        Self { requests, shares: Mutex::default() }
    }

    /// How much of each host's limit is used.
    pub fn usage(&self) -> Vec<(String, Usage)> {
        let shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let usage =
            |places: &Semaphore| Usage::of(Share::HostRequests, self.requests.get(), places);
        shares.iter().map(|(host, places)| (host.clone(), usage(places))).collect()
    }

    fn share(&self, host: &str) -> Pool {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let places = shares
            .entry(host.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(self.requests.get())))
            .clone();
        Pool { share: Share::HostRequests, limit: self.requests, places }
    }
}

// === impl ServerCalls ===

impl ServerCalls {
    /// Makes the places as `division` divides them.
    pub fn new(division: Division) -> Self {
        let places = |places: &usize| Arc::new(Semaphore::new(*places));
        let own = division.own.iter().map(|(id, own)| (id.clone(), places(own))).collect();
        Self { own, common: places(&division.common), division }
    }

    /// How many places are taken.
    pub fn usage(&self) -> Usage {
        let free = self.own.values().chain([&self.common]).map(|pool| pool.available_permits());
        let (limit, free) = (self.division.places, free.sum());
        let taken = limit.saturating_sub(free);
        Usage { resource: Resource::Share(Share::ServerCalls), limit, taken }
    }

    /// A tenant's own part, and the common part.
    fn parts(&self, tenant: &TenantId) -> [Pool; 2] {
        let limit = NonZeroUsize::new(self.division.most(tenant)).unwrap_or(NonZeroUsize::MIN);
        let own = self.own.get(tenant).unwrap_or(&self.common);
        [own, &self.common].map(|places| {
            let places = places.clone();
            Pool { share: Share::ServerCalls, limit, places }
        })
    }
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
        let host =
            |url: &http::Uri| hosts.share(url.authority().map_or("", http::uri::Authority::as_str));
        Self {
            server: server.parts(id),
            calls: Pool::new(Share::TenantCalls, limits.calls),
            requests: Pool::new(Share::TenantRequests, limits.requests),
            hosts: tenant.base_urls.iter().map(host).collect(),
        }
    }

    /// Takes a place among the server's calls, without waiting: one of the tenant's own, or else
    /// one of the common places.
    pub(super) fn enter_server(&self) -> Result<ServerPlace, Obstacle> {
        let [own, common] = &self.server;
        let place = own.take_now().or_else(|_| common.take_now())?;
        Ok(ServerPlace { _place: place })
    }

    /// How much of the tenant's own limits is used.
    pub(super) fn usage(&self) -> [Usage; 2] {
        [&self.calls, &self.requests]
            .map(|pool| Usage::of(pool.share, pool.limit.get(), &pool.places))
    }

    /// Takes a place among the tenant's calls, without waiting.
    pub(super) fn enter(&self) -> Result<CallPlace, Obstacle> {
        Ok(CallPlace { _own: self.calls.take_now()? })
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
        if host.place.is_none() || !Arc::ptr_eq(&former.places, &next.places) {
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

    /// How many calls wait for a place among the requests.
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

// === impl Pool ===

impl Pool {
    fn new(share: Share, limit: NonZeroUsize) -> Self {
        Self { share, limit, places: Arc::new(Semaphore::new(limit.get())) }
    }

    fn used_up(&self) -> Obstacle {
        Obstacle::Overloaded { share: self.share, limit: self.limit }
    }

    fn take_now(&self) -> Result<OwnedSemaphorePermit, Obstacle> {
        self.places.clone().try_acquire_owned().map_err(|_| self.used_up())
    }

    async fn take(&self, wait: Duration) -> Result<OwnedSemaphorePermit, Obstacle> {
        // Usually a place is free. Then no timer is needed.
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
