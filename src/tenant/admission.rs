//! The limits of calls and requests: of each tenant, and of each gateway host for all tenants
//! together.
//!
//! The connection pool has no bound of its own. Without these limits, thousands of connections
//! would be opened to a gateway that does not answer for two seconds.

mod adaptive_limit;
mod caller_parts;
mod fair_queue;
mod host;
mod latencies;
mod places;

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

pub use self::host::{HostUsage, Hosts};
pub(super) use self::places::Patience;
use self::{
    caller_parts::{CallerPart, CallerParts},
    host::Host,
    places::{Place, Places},
};
use super::{
    CallerId, ServerCalls,
    agents::Turn,
    pool::Pool,
    repeats::{Repeat, Repeats},
};
use crate::{
    call::{Obstacle, Share},
    config,
    gateway::{Closing, Sample, Seat},
    id::TenantId,
};

/// One tenant's limits.
#[derive(Debug)]
pub(super) struct Admission {
    /// The server's places for calls: the tenant's own, and the common ones.
    server: [Pool; 2],
    calls: Pool,
    callers: Arc<CallerParts>,
    requests: Arc<Places>,
    /// The part of the requests that batches may have open.
    batches: Arc<Places>,
    /// The limits of the gateway's hosts, in the order of the gateway's addresses.
    hosts: Box<[Arc<Host>]>,
    /// Tells its callers from those of other tenants at the same host.
    number: u64,
    /// Counts the calls from their arrival to their end, for whoever waits for the last one. A batch is one
    /// call, and has a place among the tenant's calls for each agent in turn, and one while it waits for
    /// confirmations.
    open: TaskTracker,
}

/// A place among the server's calls; released when dropped.
#[derive(Debug)]
pub struct ServerPlace {
    _place: OwnedSemaphorePermit,
    _part: CallerPart,
    _open: TaskTrackerToken,
}

/// A place among the tenant's calls; released when it and its clones are dropped.
#[derive(Clone, Debug)]
pub struct CallPlace {
    _own: Arc<OwnedSemaphorePermit>,
}

/// A place among the requests that batches may have open; released when dropped.
#[derive(Debug)]
pub(super) struct BatchPlace {
    _own: Place,
}

/// A place among the requests to the gateway; released when dropped.
#[derive(Debug)]
pub(super) struct RequestPlace {
    _own: Place,
    host: HostPlace,
}

/// A place among the requests to a gateway's host.
#[derive(Debug)]
struct HostPlace {
    /// The index of the address whose host it is.
    address: usize,
    /// `None` after the place was released and no place at another address was free in time.
    place: Option<Place>,
    /// How many lower limits of the host had been tried when the place was taken.
    trials: u32,
}

/// Exchanges a request's place when the request goes to an address with another host.
#[derive(Debug)]
pub(super) struct HostSeat<'a> {
    admission: &'a Admission,
    patience: Patience,
    repeats: &'a Repeats,
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
            callers: CallerParts::new(),
            requests: Places::new(Share::TenantRequests, limits.requests),
            batches: Places::in_order(Share::TenantRequests, batch_share(limits)),
            hosts: hosts.of(tenant),
            number: CallerId::number_of(id.as_str()),
            open: TaskTracker::new(),
        }
    }

    /// These limits for the gateway of another configuration. Places are common to both.
    pub(super) fn changed(&self, tenant: &config::Tenant, hosts: &Hosts) -> Self {
        Self {
            server: self.server.clone(),
            calls: self.calls.clone(),
            callers: self.callers.clone(),
            requests: self.requests.clone(),
            batches: self.batches.clone(),
            hosts: hosts.of(tenant),
            number: self.number,
            open: self.open.clone(),
        }
    }

    /// Changes the tenant's own limits.
    pub(super) fn resize(&self, limits: &config::Limits) {
        self.calls.resize(limits.calls);
        self.requests.resize(limits.requests.get());
        self.batches.resize(batch_share(limits).get());
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
    /// one of the common places. A caller who has very many leaves the last ones to others.
    pub(super) fn enter_server(&self, caller: CallerId) -> Result<ServerPlace, Obstacle> {
        let ([own, common], part) = (&self.server, self.callers.count(caller));
        part.check(self.calls.free(), self.calls.limit())?;
        part.check(own.free() + common.free(), own.limit())?;
        let place = own.take_now().or_else(|_| common.take_now())?;
        Ok(ServerPlace { _place: place, _part: part, _open: self.open.token() })
    }

    /// How much of the tenant's own limits is used.
    pub(super) fn usage(&self) -> [Usage; 3] {
        let batches = Usage { resource: Resource::BatchRequests, ..self.batches.usage() };
        [self.calls.usage(), self.requests.usage(), batches]
    }

    /// How many requests of batches may be open at once.
    pub(super) fn batch_share(&self) -> usize {
        self.batches.limit()
    }

    /// Takes a place among the requests that batches may have open. Callers take turns.
    pub(super) async fn batch(&self, caller: CallerId) -> Result<BatchPlace, Obstacle> {
        let patience = Patience { caller, wait: Duration::MAX, start_by: None };
        Ok(BatchPlace { _own: self.batches.take(patience, None).await? })
    }

    /// Takes a place among the tenant's calls, without waiting.
    pub(super) fn enter(&self) -> Result<CallPlace, Obstacle> {
        Ok(CallPlace { _own: self.calls.take_now()?.into() })
    }

    /// Takes a place among the tenant's requests and one among the requests to the host of
    /// `address`. Waits for each of the two, if there is time for the request then.
    pub(super) async fn request(
        &self,
        address: usize,
        patience: Patience,
    ) -> Result<RequestPlace, Obstacle> {
        let host = self.hosts.get(address);
        // In this order, so that a tenant which waits for its own limit holds no place of the host.
        let own = match self.requests.take_now() {
            Some(own) => own,
            None => self.wait_for_own(host, patience).await?,
        };
        let place = match host {
            Some(host) => Some(host.take(self.at_host(patience)).await?),
            None => None,
        };
        let trials = host.map_or(0, |host| host.trials());
        Ok(RequestPlace { _own: own, host: HostPlace { address, place, trials } })
    }

    async fn wait_for_own(
        &self,
        host: Option<&Arc<Host>>,
        patience: Patience,
    ) -> Result<Place, Obstacle> {
        // The host has as many requests as this tenant may send it, and that may be too many for it.
        let press = || host.iter().for_each(|host| host.press());
        press();
        let place = self.requests.take(patience, host.and_then(|host| host.typical())).await;
        press();
        place
    }

    /// At a host, the callers of all its tenants take turns.
    fn at_host(&self, patience: Patience) -> Patience {
        Patience { caller: patience.caller.at(self.number), ..patience }
    }

    /// What moves a request's place to the host of each address that the request goes to.
    pub(super) fn seat<'a>(
        &'a self,
        request: Option<&'a mut RequestPlace>,
        turn: &'a mut Turn,
        (patience, repeats): (Patience, &'a Repeats),
    ) -> HostSeat<'a> {
        HostSeat { admission: self, patience, repeats, request, turn }
    }
}

/// How many requests of batches may be open at once: half of the tenant's limit, rounded up.
fn batch_share(limits: &config::Limits) -> NonZeroUsize {
    let half = limits.requests.get().div_ceil(2);
    NonZeroUsize::new(half).unwrap_or(NonZeroUsize::MIN)
}

// === impl HostSeat ===

impl Seat for HostSeat<'_> {
    async fn move_to(&mut self, address: usize) -> Result<(), Obstacle> {
        let Some(RequestPlace { host, .. }) = &mut self.request else { return Ok(()) };
        if host.address == address && host.place.is_some() {
            return Ok(());
        }
        let hosts = &self.admission.hosts;
        let Some(next) = hosts.get(address) else { return Ok(()) };
        if host.place.as_ref().is_none_or(|place| !place.is_of(&next.places)) {
            // Released first, so that no request waits for a place while it holds another
            // (deadlock).
            host.place = None;
            host.place = Some(next.take(self.admission.at_host(self.patience)).await?);
            host.trials = next.trials();
        }
        host.address = address;
        Ok(())
    }

    fn may_repeat(&mut self) -> bool {
        self.repeats.may(Repeat::Address)
    }

    fn given_up(&mut self, closing: Closing) {
        self.turn.hold_for(closing);
    }

    fn note(&mut self, address: usize, interface: usize, sample: Sample) {
        if let Some(host) = self.admission.hosts.get(address) {
            let trials = self.request.as_ref().map_or(host.trials(), |place| place.host.trials);
            host.note(interface, trials, sample);
        }
    }
}

// === impl Usage ===

impl Usage {
    /// The usage of a semaphore that has `limit` permits.
    pub fn of(share: Share, limit: usize, places: &Semaphore) -> Self {
        Self::new(share, limit, limit.saturating_sub(places.available_permits()))
    }

    fn new(share: Share, limit: usize, taken: usize) -> Self {
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
