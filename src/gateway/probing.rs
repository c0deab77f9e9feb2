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
#[derive(Clone, Debug)]
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

#[cfg(test)]
mod tests {
    use tokio::{task::yield_now, time::advance};

    use super::*;
    use crate::{
        call::Untouched,
        config::{Breaker, ClientTls, Trust},
        gateway::{AGENT_STATUS, connector::Connector, endpoint::Endpoint, metrics},
        id::TenantId,
        resolver::Resolver,
        telemetry::metrics::Metrics,
        tls,
    };

    const SECOND: Duration = Duration::from_secs(1);
    const MILLISECOND: Duration = Duration::from_millis(1);
    const ADDRESSES: u8 = 16;

    /// A gateway to which each attempt to connect fails at once, since nothing connects by this scheme.
    fn unreachable(tenant: &TenantId) -> Route {
        let any = ClientTls { trust: Trust::Anything, client: None };
        let endpoints = (0..ADDRESSES).map(|number| {
            let tls = tls::client_config(&any).expect("TLS");
            let connector = Connector::new(tls, SECOND, &any.trust, Resolver::default());
            let url = format!("gopher://gateway-{number}.example/x").parse().expect("a URL");
            Endpoint::new(&url, connector, SECOND).expect("a host")
        });
        let breaker = Breaker { failures: 1, pause: SECOND, pause_max: 8 * SECOND };
        Route::new(tenant.clone(), endpoints, breaker)
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_trip_together_are_probed_when_that_is_due_and_not_together() {
        let (tenant, counted) = (TenantId::parse("acme").expect("a name"), Metrics::new(&[], &[]));
        let (route, sums) = (Arc::new(unreachable(&tenant)), Arc::new(Sums::default()));
        let agent = AgentId::lowest(&(1..=1));
        let probing = Probing {
            route: route.clone(),
            interface: &AGENT_STATUS,
            is_unknown_there: false,
            agent,
            limit: SECOND,
            metrics: Arc::new(metrics::of(&counted.requests, &tenant)),
            sums: sums.clone(),
        };
        tokio::spawn(probing.run());
        // It waits until an address trips.
        yield_now().await;
        let tripped = Instant::now();
        for (index, address) in route.addresses() {
            let failure = Failure::NotSent(Untouched::at_the_start(), "no route".into());
            let sample = (TimeoutClass::Request, agent);
            route.judge(address.pick(index), sample, false, &Err(failure));
        }
        // Until after the first probes and before the second ones, so finely that each comes at its own time.
        for _ in 0..2000 {
            advance(MILLISECOND).await;
        }
        let counts = sums.counts();
        assert_eq!([counts.requests, counts.unanswered], [u64::from(ADDRESSES); 2]);
        // The second probe is due two seconds after the first one.
        let second = route.addresses().filter_map(|(_, address)| address.next_probe());
        let first: Vec<_> = second.map(|due| due - (tripped + 2 * SECOND)).collect();
        assert_eq!(first.len(), usize::from(ADDRESSES), "all are still tripped");
        let (earliest, latest) =
            (first.iter().min().expect("one"), first.iter().max().expect("one"));
        assert!(*earliest >= SECOND && *latest <= SECOND * 5 / 4, "{first:?}");
        assert!(*latest > *earliest + 10 * MILLISECOND, "as if they were one: {first:?}");
    }
}
