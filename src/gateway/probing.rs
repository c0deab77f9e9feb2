//! Probes the addresses of a gateway that have tripped.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use rand::RngExt as _;
use tokio::time::{Instant, sleep_until};

use super::{
    Command, Exchanged, Request,
    interface::{Interface, TimeoutClass},
    metrics::{RequestMetrics, Sums},
    route::{Pick, Route, Routed},
    transport_failure::Failure,
};
use crate::{call::Stage, id::AgentId, telemetry::trace::Trace};

/// Asks, without a Guid, what changes nothing.
#[derive(Debug)]
pub(super) struct Probing {
    pub(super) route: Arc<Route>,
    /// That of [`interface_of`](super::probe::interface_of).
    pub(super) interface: &'static Interface,
    /// Whether the gateway does not have it.
    pub(super) is_unknown_there: bool,
    pub(super) agent: AgentId,
    pub(super) limit: Duration,
    pub(super) metrics: Arc<RequestMetrics>,
    pub(super) sums: Arc<Sums>,
}

impl Probing {
    /// Probes until dropped, each address for itself: one that does not answer holds up no other.
    pub(super) async fn run(self) {
        let addresses = self.route.addresses();
        join_all(addresses.map(|(index, address)| self.probe_address(index, address))).await;
    }

    async fn probe_address(&self, index: usize, address: &Routed) {
        loop {
            let Some(due) = address.next_probe() else {
                address.tripped.notified().await;
                continue;
            };
            // Replicas that have lost a gateway together do not probe it together.
            let jitter = rand::rng().random_range(0.0..0.2);
            let wait = due.saturating_duration_since(Instant::now()).mul_f64(1.0 + jitter);
            tokio::select! {
                () = sleep_until(Instant::now() + wait) => {}
                () = address.tripped.notified() => continue,
            }
            // A request may have put it off, or made it needless.
            if address.next_probe().is_some_and(|due| due <= Instant::now()) {
                self.probe(address.pick(index)).await;
            }
        }
    }

    async fn probe(&self, pick: Pick) {
        let Some(endpoint) = self.route.endpoint(pick.index) else { return };
        let command = Command::plain(self.interface);
        let request = Request {
            command: &command,
            agent: self.agent,
            session: None,
            body: None,
            stage: Stage::Answer,
            trace: Trace::default(),
        };
        let begun = Instant::now();
        let asked = endpoint.probe(&request, self.limit).await;
        // A poll is sent only where there are Guids, and refused at once, since it has none.
        let sample = (TimeoutClass::Request, self.agent);
        self.route.judge(pick, sample, self.is_unknown_there, &asked);
        let result = match &asked {
            Ok(reply) => reply.amounts_to(),
            Err(Failure::NotSent(..) | Failure::Prevented(..)) => Exchanged::Unreachable,
            Err(Failure::Sent(_) | Failure::Late(..)) => Exchanged::NoAnswer,
        };
        self.sums.note(self.interface, result);
        self.metrics.request(self.interface, result, begun.elapsed());
    }
}
