//! What the connections of one listener have in common, and its HTTP/2 limits.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio_rustls::TlsAcceptor;

use super::{Stages, connection_limits::ConnectionLimits, service::Services, token_bucket::Rate};
use crate::{
    access::{CurrentPolicy, ListenerPolicy},
    config::{Connections, Http2},
};

/// What every connection of a listener needs.
pub(super) struct ListenerContext {
    /// Replaced when the certificates are.
    pub(super) tls: Option<RwLock<TlsAcceptor>>,
    pub(super) http2: http2::Builder<TokioExecutor>,
    pub(super) keepalive_timeout: Duration,
    pub(super) policy: Arc<CurrentPolicy>,
    /// How many requests a connection may bring, and how many streams it may reset.
    pub(super) rates: [Rate; 2],
    /// How many streams a connection may have at once.
    pub(super) streams: u32,
    pub(super) shared: SharedContext,
}

/// The part that is the same for all listeners.
#[derive(Clone)]
pub(super) struct SharedContext {
    pub(super) services: Services,
    pub(super) limits: Connections,
    pub(super) connection_limits: Arc<ConnectionLimits>,
    pub(super) stages: Stages,
}

impl ListenerContext {
    pub(super) fn new(
        limits_of_http2: &Http2,
        tls: Option<TlsAcceptor>,
        policy: ListenerPolicy,
        shared: SharedContext,
    ) -> Self {
        let keepalive_timeout = limits_of_http2.keepalive_timeout;
        let (tls, policy) = (tls.map(RwLock::new), CurrentPolicy::new(policy));
        let Connections { requests_per_second, resets_per_second, .. } = shared.limits;
        let streams = limits_of_http2.max_concurrent_streams;
        let rates = [requests_per_second, resets_per_second].map(|most| Rate::new(most, streams));
        Self {
            tls,
            http2: http2(limits_of_http2),
            keepalive_timeout,
            policy,
            rates,
            streams,
            shared,
        }
    }
}

impl ListenerContext {
    /// The TLS of new connections.
    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        let tls = self.tls.as_ref()?;
        Some(tls.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Serves new connections with this TLS, if the listener has any, and all callers by this policy.
    pub(super) fn replace(&self, acceptor: Option<TlsAcceptor>, policy: ListenerPolicy) {
        if let (Some(tls), Some(acceptor)) = (&self.tls, acceptor) {
            *tls.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
        }
        self.policy.replace(policy);
    }
}

/// Bytes that a caller may send on one call before it has to wait. The requests of the contract
/// have a few hundred bytes.
const STREAM_WINDOW: u32 = 65_536;
/// The same for all calls of a connection together. So many bytes of each connection may be in
/// memory before its calls have read them.
const CONNECTION_WINDOW: u32 = 131_072;
/// The smallest frame limit that HTTP/2 allows (RFC 9113, section 4.2). Small requests gain nothing
/// from a larger one.
const FRAME_SIZE: u32 = 16_384;
/// A request's decoded headers. Leaves room for the tokens and traces that service meshes add.
const HEADER_LIST_SIZE: u32 = 16_384;
/// Calls that are opened and reset before they are handled ("rapid reset", CVE-2023-44487). More of
/// them end the connection. h2's own default of 20 ends it for an honest caller too, who cancels many
/// calls at once. `server.connections.resets_per_second` ends a connection on which that goes on. Each
/// takes about two kilobytes until it is handled, so that a connection has at most a megabyte of them.
const PENDING_ACCEPT_RESETS: usize = 512;
/// Calls that the server resets for errors of the caller (CVE-2025-8671). More of them end the
/// connection. This is h2's own default.
const LOCAL_ERROR_RESETS: usize = 1024;
/// Bytes of one call's answers that may wait for a slow caller. All connections together have
/// another limit (`send_buffers`).
const SEND_BUFFER_OF_CALL: usize = 65_536;

/// Sets every limit explicitly: tonic and hyper leave two of them off by default.
fn http2(limits: &Http2) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        // gRPC callers do not read the date.
        .auto_date_header(false)
        .max_concurrent_streams(limits.max_concurrent_streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE)
        .max_header_list_size(HEADER_LIST_SIZE)
        .max_pending_accept_reset_streams(PENDING_ACCEPT_RESETS)
        .max_local_error_reset_streams(LOCAL_ERROR_RESETS)
        .max_send_buf_size(SEND_BUFFER_OF_CALL)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    builder
}

impl fmt::Debug for ListenerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerContext").field("policy", &self.policy).finish_non_exhaustive()
    }
}
