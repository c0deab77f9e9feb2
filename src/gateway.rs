//! The HTTPS side: one tenant's gateway, from a request to what its answer says.
//!
//! [`Gateway::exchange`] sends one request and never repeats it, except on the next address when
//! no connection was made to the first. What a refusal is worth, and whether the call may be made
//! again with a newer Guid, is decided by [`crate::tenant`].

mod client;
mod connector;
mod envelope;
mod failure;
mod interface;
mod reply;
mod request;
mod sign_in;
mod tls;

use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};

pub use self::{
    client::BuildError,
    envelope::{Envelope, Unreadable},
    interface::{FORCE_SIGN_IN, FORCE_SIGN_OUT, Interface, SAY_BUSY, SIGN_IN, SIGN_OUT, say_busy},
    reply::Reply,
    request::{Command, Request},
    sign_in::{InitialState, SignIn},
};
use self::{client::Client, failure::Failure, request::Endpoint};
use crate::{
    call::{CallError, Patience, Stage},
    config,
};

/// One tenant's gateway.
#[derive(Debug)]
pub struct Gateway {
    client: Client,
    /// In the operator's order of preference; never empty.
    endpoints: Box<[Endpoint]>,
    /// Index of the address that worked last.
    current: AtomicUsize,
    timeouts: config::Timeouts,
}

impl Gateway {
    /// A client of the tenant's gateway. Opens nothing.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if TLS cannot be set up with what the tenant's configuration names.
    pub fn new(tenant: &config::Tenant) -> Result<Self, BuildError> {
        Ok(Self {
            client: Client::new(tenant)?,
            endpoints: tenant.base_urls.iter().filter_map(Endpoint::new).collect(),
            current: AtomicUsize::new(0),
            timeouts: tenant.timeouts.clone(),
        })
    }

    /// Sends a request and reads its answer.
    ///
    /// Once the request has left, this goes on to the answer or the interface's time limit even
    /// when nobody waits any more; the caller is then answered through `patience`. A request that
    /// has not left by then is dropped.
    ///
    /// # Errors
    ///
    /// [`CallError::Unreachable`] and [`CallError::Deadline`] before a connection was there,
    /// [`CallError::NoAnswer`] after that.
    pub async fn exchange(
        &self,
        request: &Request<'_>,
        stage: Stage,
        patience: &mut Patience,
    ) -> Result<Reply, CallError> {
        let first = self.current.load(Ordering::Relaxed);
        let mut causes = Vec::new();
        for turn in 0..self.endpoints.len() {
            let index = (first + turn) % self.endpoints.len();
            let Some(endpoint) = self.endpoints.get(index) else {
                break;
            };
            patience.may_start()?;
            match self.attempt(request, endpoint, stage, patience).await {
                Err(Failure::NotSent(cause)) => causes.push(format!("{endpoint}: {cause}")),
                Err(Failure::Sent(cause)) => return Err(CallError::NoAnswer(cause)),
                Err(Failure::Lost(error)) => return Err(error),
                Ok(reply) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(reply);
                }
            }
        }
        Err(CallError::Unreachable(causes.join("; ")))
    }

    async fn attempt(
        &self,
        request: &Request<'_>,
        endpoint: &Endpoint,
        stage: Stage,
        patience: &mut Patience,
    ) -> Result<Reply, Failure> {
        let mut http = request.to_http(endpoint).map_err(Failure::NotSent)?;
        // Captures the connection in the moment in which the request is handed to it; until then
        // nothing has been sent and dropping the attempt is safe.
        let connection = capture_connection(&mut http);
        let limit = request.interface().time_limit(&self.timeouts);
        let mut attempt = std::pin::pin!(self.client.fetch(http, limit));

        tokio::select! {
            biased;
            done = &mut attempt => done.map_err(|failure| failure.unless_sent(is_sent(&connection))),
            loss = patience.lost() => {
                if !is_sent(&connection) {
                    return Err(Failure::Lost(loss.before_sending()));
                }
                patience.answer(loss.after_sending(stage));
                attempt.await
            }
        }
    }
}

fn is_sent(connection: &CaptureConnection) -> bool {
    connection.connection_metadata().is_some()
}
