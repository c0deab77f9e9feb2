//! The HTTPS side: one tenant's gateway, from a request to the meaning of its answer.
//!
//! [`Gateway::exchange`] sends a request. It sends the request again, on another connection or to
//! the next address, only if nothing of it was written before. [`crate::tenant`] decides what a
//! refusal means, and whether the call may be repeated with a newer Guid.

mod address;
mod agent_status;
mod answer;
mod body;
mod breaker;
mod command;
mod connection;
mod connector;
mod content_coding;
mod endpoint;
mod envelope;
mod exchange;
mod exchanged;
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod health;
mod hidden_guids;
mod http_status;
mod interface;
mod keep_alive;
#[doc(hidden)]
pub mod measured;
mod metrics;
mod outgoing;
pub mod probe;
mod probing;
mod reply;
mod request;
mod route;
mod sign_in_body;
mod socket;
mod span;
mod transport_cause;
mod transport_failure;
mod wire;

use std::{
    ptr,
    sync::{Arc, OnceLock},
};

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

pub use self::{
    agent_status::AgentStatus,
    command::{Command, poll_all, reset_skill, rest, say_busy},
    connection::Closing,
    content_coding::undo_codings,
    envelope::{Envelope, SHORT_MAX, Unreadable, short, shorten},
    exchanged::Exchanged,
    health::{AddressState, AddressView, Failed},
    http_status::is_of_time_limit,
    interface::{
        AGENT_STATUS, CANCEL_BUSY, CANCEL_REST, CANCEL_WORK, Effect, FORCE_SIGN_IN, FORCE_SIGN_OUT,
        INTERFACES, Interface, POLL, POLL_ALL, RESET_SKILL, REST, SAY_BUSY, SAY_FREE, SIGN_IN,
        SIGN_OUT, TimeoutClass, UPDATE_GUID, WORK,
    },
    metrics::RequestCounts,
    reply::Reply,
    request::Request,
    sign_in_body::{InitialState, SignIn},
};
use self::{
    breaker::Change,
    connector::Connector,
    endpoint::Endpoint,
    metrics::{RequestMetrics, Sums},
    probing::Probing,
    route::{LastResort, Route, Tried},
    transport_failure::Failure,
};
use crate::{
    call::{CallError, CallerWait, Obstacle, Stage, Untouched, Wait},
    config::{self, AuthMode},
    id::{AgentId, TenantId},
    resolver::Resolver,
    telemetry::{
        metrics::{Numbered, Requests, Times},
        trace::Span,
    },
    tls::{self, SystemRoots},
};

/// One tenant's gateway. Its connections are not shared with other tenants.
#[derive(Debug)]
pub struct Gateway {
    id: TenantId,
    route: Arc<Route>,
    probing: Probing,
    /// Probes tripped addresses as long as the gateway exists. There is no such task before one has tripped.
    prober: OnceLock<AbortOnDropHandle<()>>,
    timeouts: config::Timeouts,
    /// Whether an accepted sign-in has to bring a Guid.
    has_guids: bool,
    metrics: Arc<RequestMetrics>,
    sums: Arc<Sums>,
    resolver: Resolver,
}

/// The place that a request holds while it is sent to one of the gateway's addresses.
pub trait Seat: Send {
    /// Gets a place at this address, an index into the tenant's `base_urls`.
    ///
    /// # Errors
    ///
    /// [`Obstacle::Overloaded`] if no place is free. Then none is held.
    fn move_to(&mut self, address: usize) -> impl Future<Output = Result<(), Obstacle>> + Send;

    /// Whether the request, which could not be sent to an address, may go to another one.
    fn may_repeat(&mut self) -> bool;

    /// Called when the request was given up. The gateway may still work on it until it notices.
    fn given_up(&mut self, closing: Closing);

    /// Called with what a request through the [interface of this number](Numbered::number) tells of how much the host
    /// of this address bears.
    fn note(&mut self, address: usize, interface: usize, sample: Sample);
}

/// What a request tells of how much a host bears. Sign-ins and polls tell nothing, since they take long in any case,
/// and so do refusals, which may take less than what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// It was carried out and answered.
    Answered {
        /// When it began to be written.
        sent: Instant,
        /// When the answer was complete.
        answered: Instant,
    },
    /// There was no answer, or the gateway was too busy.
    TooMuch,
}

/// No place, for requests whose number is limited in another way.
#[derive(Debug)]
pub struct NoSeat;

impl Seat for NoSeat {
    async fn move_to(&mut self, _address: usize) -> Result<(), Obstacle> {
        Ok(())
    }

    fn may_repeat(&mut self) -> bool {
        true
    }

    fn given_up(&mut self, _closing: Closing) {}

    fn note(&mut self, _address: usize, _interface: usize, _sample: Sample) {}
}

/// Why a tenant's gateway client cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS towards the gateway: {0}")]
pub struct BuildError(String);

impl Gateway {
    /// Builds a client of the tenant's gateway. Opens no connection.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if TLS cannot be set up as the tenant's configuration says.
    pub(crate) fn new(
        id: &TenantId,
        tenant: &config::Tenant,
        requests: &Requests,
        system_roots: &SystemRoots,
    ) -> Result<Self, BuildError> {
        let counts = (Arc::new(metrics::of(requests, id)), Arc::default());
        Self::build(id, tenant, system_roots, counts, Resolver::default())
    }

    /// A client of the same tenant's gateway as another configuration describes it. It goes on counting, and begins no
    /// lookup of a name that is still being looked up.
    ///
    /// # Errors
    ///
    /// As [`Gateway::new`].
    pub(crate) fn changed(
        &self,
        tenant: &config::Tenant,
        system_roots: &SystemRoots,
    ) -> Result<Self, BuildError> {
        let counts = (self.metrics.clone(), self.sums.clone());
        Self::build(&self.id, tenant, system_roots, counts, self.resolver.clone())
    }

    fn build(
        id: &TenantId,
        tenant: &config::Tenant,
        system_roots: &SystemRoots,
        (metrics, sums): (Arc<RequestMetrics>, Arc<Sums>),
        resolver: Resolver,
    ) -> Result<Self, BuildError> {
        let servers = tenant.base_urls.len();
        let tls =
            tls::client_config_with(&tenant.tls, servers, system_roots).map_err(BuildError)?;
        let timeouts = tenant.timeouts.clone();
        let connector = Connector::new(tls, timeouts.connect, &tenant.tls.trust, resolver.clone());
        let endpoint = |url| {
            let endpoint = Endpoint::new(url, connector.clone(), timeouts.idle);
            endpoint.map(|endpoint| endpoint.counted(metrics.connections().clone()))
        };
        let endpoints = tenant.base_urls.iter().filter_map(endpoint);
        let route = Arc::new(Route::new(id.clone(), endpoints, tenant.breaker));
        let probing = Probing {
            route: route.clone(),
            interface: probe::interface_of(tenant),
            is_unknown_there: probe::is_unknown_there(tenant),
            agent: AgentId::lowest(&tenant.agent_ids),
            limit: timeouts.request,
            metrics: metrics.clone(),
            sums: sums.clone(),
        };
        Ok(Self {
            id: id.clone(),
            route,
            probing,
            prober: OnceLock::new(),
            timeouts,
            has_guids: tenant.auth_mode != AuthMode::None,
            metrics,
            sums,
            resolver,
        })
    }

    /// Sends a request and reads its answer.
    ///
    /// Once the request has been written, this waits for the answer or the interface's time limit,
    /// even when nobody waits any more. The caller is then answered through `caller_wait`. If
    /// nobody waits any more before the write, the request is dropped. `seat` is moved to each
    /// address before that is asked.
    ///
    /// # Errors
    ///
    /// The error that `untouched` makes of an obstacle: [`Obstacle::Unreachable`],
    /// [`Obstacle::Deadline`] or those of [`Seat::move_to`]. [`CallError::NoAnswer`] once a byte of
    /// the request may have been written.
    pub async fn exchange(
        &self,
        mut request: Request<'_>,
        caller_wait: &mut CallerWait,
        seat: &mut impl Seat,
        untouched: Untouched,
    ) -> Result<Reply, CallError> {
        let begun = Instant::now();
        let span = span::begin(&mut request);
        let mut verdict = self.send((&request, &span), caller_wait, seat, untouched).await;
        if let Ok(reply) = &mut verdict {
            let update: &Interface = &UPDATE_GUID;
            let brings_guid = ptr::eq(request.interface(), update);
            reply.take_guids(request.session.map(|session| &session.guid), brings_guid);
        }
        let result = match &verdict {
            Ok(reply) => self.amounts_to(&request, reply),
            Err(CallError::NoAnswer(_)) => Exchanged::NoAnswer,
            Err(error) => match error.obstacle() {
                Some(Obstacle::Unreachable { .. }) => Exchanged::Unreachable,
                _ => Exchanged::GivenUp,
            },
        };
        span::end(&span, &verdict, result);
        self.sums.note(request.interface(), result);
        self.metrics.request(request.interface(), result, begun.elapsed());
        verdict
    }

    /// The result of an answer to this request. Unlike the reply itself, it considers a missing
    /// Guid.
    fn amounts_to(&self, request: &Request<'_>, reply: &Reply) -> Exchanged {
        match reply.amounts_to() {
            Exchanged::Accepted
                if self.has_guids && reply.guid.is_none() && request.makes_session() =>
            {
                Exchanged::WithoutGuid
            }
            result => result,
        }
    }

    /// The numbers of requests so far.
    pub fn counts(&self) -> RequestCounts {
        self.sums.counts()
    }

    /// How long requests for calls have taken so far, from their start to the answer, or to the end of their time
    /// limit. Polls and sign-ins are left out.
    pub fn times(&self) -> Times {
        let of_calls =
            INTERFACES.into_iter().filter(|one| one.timeout_class == TimeoutClass::Request);
        of_calls.map(|interface| self.metrics.times(interface)).sum()
    }

    /// The state of each address, in the configured order.
    pub fn addresses(&self) -> Vec<AddressView> {
        self.route.views()
    }

    /// The address that the next request for this agent goes to first, as an index into `base_urls`.
    pub fn current(&self, agent: AgentId) -> usize {
        self.route.first_for(agent)
    }

    /// Whether a site that refuses a Guid must have known its session, if there was one: the one at the first of the
    /// `base_urls`, while the requests for all agents go there. `address`, an index into them, is the one that has answered.
    pub fn knows_all_sessions(&self, address: usize) -> bool {
        address == 0 && self.route.is_at_first()
    }

    async fn send(
        &self,
        (request, span): (&Request<'_>, &Span),
        caller_wait: &mut CallerWait,
        seat: &mut impl Seat,
        mut untouched: Untouched,
    ) -> Result<Reply, CallError> {
        let limit = request.interface().time_limit(&self.timeouts);
        let last_resort = match request.interface().timeout_class {
            _ if request.stage == Stage::ReadBack => LastResort::Always,
            TimeoutClass::Poll => LastResort::Always,
            TimeoutClass::Request | TimeoutClass::SignIn => LastResort::InTurn,
        };
        let mut tried = Tried::default();
        while let Some(pick) = self.route.pick(request.agent, tried, last_resort) {
            let Some(endpoint) = self.route.endpoint(pick.index) else { break };
            if tried.is_any() && !seat.may_repeat() {
                untouched.tried("no other address, since too many requests are repeated".into());
                return Err(untouched.unreachable(None));
            }
            tried.add(pick.index);
            let seated = take_seat(seat, pick.index, caller_wait, &untouched).await;
            untouched.check(seated)?;
            untouched.check(caller_wait.may_start())?;
            let asked = endpoint.exchange(request, limit, caller_wait, untouched).await;
            let sample = (request.interface().timeout_class, request.agent);
            // A question that follows a failure would count that failure twice, or hide it.
            let counts = request.stage != Stage::ReadBack;
            if counts && self.route.judge(pick, sample, false, &asked) == Some(Change::Tripped) {
                self.begin_probing();
            }
            if let Some(sample) = sample_of(request.interface(), &asked) {
                seat.note(pick.index, request.interface().number(), sample);
            }
            match asked {
                Err(Failure::NotSent(still, cause)) => {
                    untouched = still;
                    untouched.tried(format!("{endpoint}: {cause}"));
                }
                Err(Failure::Sent(cause)) => {
                    span::asked(span, endpoint.address());
                    return Err(CallError::NoAnswer(cause));
                }
                Err(Failure::Late(cause, closing)) => {
                    span::asked(span, endpoint.address());
                    seat.given_up(closing);
                    return Err(CallError::NoAnswer(cause));
                }
                Err(Failure::Prevented(error, _)) => return Err(error),
                Ok(mut reply) => {
                    span::asked(span, endpoint.address());
                    reply.answered_by = Some(pick.index);
                    return Ok(reply);
                }
            }
        }
        let retry_in = self.route.left_out(tried, &mut untouched);
        Err(untouched.unreachable(retry_in))
    }

    fn begin_probing(&self) {
        let probe = || AbortOnDropHandle::new(tokio::spawn(self.probing.clone().run()));
        self.prober.get_or_init(probe);
    }
}

fn sample_of(interface: &Interface, asked: &Result<Reply, Failure>) -> Option<Sample> {
    if interface.timeout_class != TimeoutClass::Request {
        return None;
    }
    match asked {
        Ok(reply) => reply.sample(),
        Err(Failure::Sent(_) | Failure::Late(..)) => Some(Sample::TooMuch),
        Err(Failure::NotSent(..) | Failure::Prevented(..)) => None,
    }
}

/// Gets a place at an address, as long as somebody waits.
async fn take_seat(
    seat: &mut impl Seat,
    address: usize,
    caller_wait: &mut CallerWait,
    untouched: &Untouched,
) -> Result<(), Obstacle> {
    caller_wait.before_sending(untouched, Wait::Queue, seat.move_to(address)).await.flatten()
}

#[cfg(test)]
mod tests;
