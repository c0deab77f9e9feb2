//! The HTTPS side: one tenant's gateway, from a request to what its answer says.
//!
//! [`Gateway::exchange`] sends one request and never repeats it, except on another connection, or at
//! the next address, when nothing of it was written to the first. What a refusal is worth, and
//! whether the call may be made again with a newer Guid, is decided by [`crate::tenant`].

mod agent_status;
mod command;
mod connection;
mod connector;
mod endpoint;
mod envelope;
mod failure;
mod health;
mod interface;
mod observed;
pub mod probe;
mod reply;
mod request;
mod sign_in;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::time::Instant;

pub use self::{
    agent_status::AgentStatus,
    command::{Command, reset_skill, rest, say_busy},
    connection::Closing,
    envelope::{Envelope, Unreadable},
    health::{AddressView, Failed},
    interface::{
        AGENT_STATUS, CANCEL_BUSY, CANCEL_REST, CANCEL_WORK, Effect, FORCE_SIGN_IN, FORCE_SIGN_OUT,
        INTERFACES, Interface, POLL, Pace, RESET_SKILL, REST, SAY_BUSY, SAY_FREE, SIGN_IN,
        SIGN_OUT, UPDATE_GUID, WORK,
    },
    reply::{Reply, updated_guid},
    request::Request,
    sign_in::{InitialState, SignIn},
};
use self::{connector::Connector, endpoint::Endpoint, failure::Failure};
use crate::{
    call::{CallError, Obstacle, Patience, Untouched, Wait},
    config::{self, AuthMode},
    metrics::TenantMetrics,
    tls,
    trace::Span,
};

/// One tenant's gateway. No other tenant shares its connections.
#[derive(Debug)]
pub struct Gateway {
    /// In the operator's order of preference; never empty.
    endpoints: Box<[Endpoint]>,
    /// Index of the address that worked last.
    current: AtomicUsize,
    timeouts: config::Timeouts,
    /// Whether an accepted sign-in has to bring a Guid.
    has_guids: bool,
    metrics: Arc<TenantMetrics>,
}

/// What a request holds while it is sent to one of the gateway's addresses.
pub trait Seat: Send {
    /// Makes it a place at this address, an index into the tenant's `base_urls`.
    ///
    /// # Errors
    ///
    /// [`Obstacle::Overloaded`] if there is none; nothing is held then.
    fn move_to(&mut self, address: usize) -> impl Future<Output = Result<(), Obstacle>> + Send;

    /// The request has been given up, and the gateway may be at it until it has noticed.
    fn given_up(&mut self, closing: Closing);
}

/// For requests whose number is bounded otherwise.
#[derive(Debug)]
pub struct NoSeat;

impl Seat for NoSeat {
    async fn move_to(&mut self, _address: usize) -> Result<(), Obstacle> {
        Ok(())
    }

    fn given_up(&mut self, _closing: Closing) {}
}

/// Why a tenant's gateway cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS towards the gateway: {0}")]
pub struct BuildError(String);

impl Gateway {
    /// A client of the tenant's gateway. Opens nothing; must be called within a runtime.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if TLS cannot be set up with what the tenant's configuration names.
    pub fn new(tenant: &config::Tenant, metrics: Arc<TenantMetrics>) -> Result<Self, BuildError> {
        let tls = tls::client_config(&tenant.tls).map_err(BuildError)?;
        let timeouts = tenant.timeouts.clone();
        let connector = Connector::new(tls, timeouts.connect);
        let endpoint = |url| {
            let endpoint = Endpoint::new(url, connector.clone(), timeouts.idle);
            endpoint.map(|endpoint| endpoint.counted(metrics.connections().clone()))
        };
        let endpoints = tenant.base_urls.iter().filter_map(endpoint).collect();
        let has_guids = tenant.auth_mode != AuthMode::None;
        Ok(Self { endpoints, current: AtomicUsize::new(0), timeouts, has_guids, metrics })
    }

    /// Sends a request and reads its answer.
    ///
    /// Once the request has left, this goes on to the answer or the interface's time limit even
    /// when nobody waits any more; the caller is then answered through `patience`. A request that
    /// has not left by then is dropped. `seat` is moved to each address before it is asked.
    ///
    /// # Errors
    ///
    /// What `untouched` makes of what kept the request from being sent: [`Obstacle::Unreachable`],
    /// [`Obstacle::Deadline`], those of [`Seat::move_to`]. [`CallError::NoAnswer`] once a byte of it may have
    /// been written.
    pub async fn exchange(
        &self,
        mut request: Request<'_>,
        patience: &mut Patience,
        seat: &mut impl Seat,
        untouched: Untouched,
    ) -> Result<Reply, CallError> {
        let begun = Instant::now();
        let span = observed::begin(&mut request);
        let verdict = self.send((&request, &span), patience, seat, untouched).await;
        let result = match &verdict {
            Ok(reply) => self.class(&request, reply),
            Err(CallError::NoAnswer(_)) => "no_answer",
            Err(error) => match error.obstacle() {
                Some(Obstacle::Unreachable(_)) => "unreachable",
                _ => "given_up",
            },
        };
        observed::end(&span, &verdict, result);
        self.metrics.request(request.interface().log_name, result, begun.elapsed());
        verdict
    }

    /// What an answer amounts to, as metrics spell it.
    fn class(&self, request: &Request<'_>, reply: &Reply) -> &'static str {
        match reply.class() {
            "ok" if self.has_guids && reply.guid.is_none() && request.makes_session() => "no_guid",
            class => class,
        }
    }

    /// How its addresses are doing, in the operator's order.
    pub fn addresses(&self) -> Vec<AddressView> {
        let current = self.current.load(Ordering::Relaxed);
        let view = |(index, endpoint): (usize, &Endpoint)| {
            endpoint.health().view(endpoint.to_string(), index == current)
        };
        self.endpoints.iter().enumerate().map(view).collect()
    }

    /// The address that the next request goes to first, an index into `base_urls`.
    pub fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    async fn send(
        &self,
        (request, span): (&Request<'_>, &Span),
        patience: &mut Patience,
        seat: &mut impl Seat,
        mut untouched: Untouched,
    ) -> Result<Reply, CallError> {
        let limit = request.interface().time_limit(&self.timeouts);
        let first = self.current.load(Ordering::Relaxed);
        for turn in 0..self.endpoints.len() {
            let index = (first + turn) % self.endpoints.len();
            let Some(endpoint) = self.endpoints.get(index) else { break };
            let seated = take_seat(seat, index, patience, &untouched).await;
            untouched.check(seated)?;
            untouched.check(patience.may_start())?;
            match endpoint.exchange(request, limit, patience, untouched).await {
                Err(Failure::NotSent(still, cause)) => {
                    endpoint.health().failed(&cause);
                    untouched = still;
                    untouched.tried(format!("{endpoint}: {cause}"));
                }
                Err(Failure::Sent(cause)) => {
                    observed::asked(span, endpoint);
                    endpoint.health().failed(&cause);
                    return Err(CallError::NoAnswer(cause));
                }
                Err(Failure::Late(cause, closing)) => {
                    observed::asked(span, endpoint);
                    endpoint.health().failed(&cause);
                    seat.given_up(closing);
                    return Err(CallError::NoAnswer(cause));
                }
                Err(Failure::Kept(error)) => return Err(error),
                Ok(reply) => {
                    observed::asked(span, endpoint);
                    endpoint.health().answered(&reply);
                    if turn > 0 {
                        self.current.store(index, Ordering::Relaxed);
                    }
                    return Ok(reply);
                }
            }
        }
        Err(untouched.unreachable())
    }
}

/// Takes the seat at an address, as long as somebody waits.
async fn take_seat(
    seat: &mut impl Seat,
    address: usize,
    patience: &mut Patience,
    untouched: &Untouched,
) -> Result<(), Obstacle> {
    patience.before_sending(untouched, Wait::Queue, seat.move_to(address)).await.flatten()
}
