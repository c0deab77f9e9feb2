use std::{
    fmt::{self, Write as _},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU8, Ordering},
    },
};

use http::StatusCode;

use crate::{
    gateway::{AddressState, AddressView},
    server::{connection_limits::ConnectionLimits, reloads::Reloads},
    session::{StoreState, StoreView, Stores},
    tenant::{LeaseCounts, SignInQueue, StateCount, TakenOver, Tenant, Tenants, Usage},
};

/// Whether calls should be sent here.
#[derive(Debug)]
pub(super) struct Readiness {
    phase: AtomicU8,
    tenants: Tenants,
    /// Only reported. Callers are welcome even while the store is down.
    stores: Stores,
    connection_limits: Arc<ConnectionLimits>,
    reloads: Arc<Reloads>,
    /// Shown with every answer, one line each.
    warnings: RwLock<String>,
}

/// Whether the bridge is starting, serving or stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not everything is set up yet.
    Starting = 0,
    /// Calls are accepted.
    Ready = 1,
    /// The bridge is stopping.
    Draining = 2,
}

/// The most agents that are listed for one tenant.
const NAMED_MAX: usize = 20;

/// Lines on sign-ins that wait and agents taken by other clients. Empty if there are none.
fn sign_ins(tenant: &Tenant) -> String {
    let (id, queue) = (tenant.id(), tenant.sign_in_queue());
    let mut lines = String::new();
    if queue.waiting > 0 {
        let SignInQueue { waiting, oldest, per_second, empty_in, .. } = queue;
        let (oldest, empty_in) = (oldest.as_secs(), empty_in.as_secs());
        // Writing to a String cannot fail.
        let _written = writeln!(
            lines,
            "tenant {id}: sign-ins {waiting} queued, the oldest for {oldest} s, {per_second:.1} a \
             second, empty in about {empty_in} s",
        );
    }
    for TakenOver { agent, attempts, given_up } in tenant.taken_over().into_iter().take(NAMED_MAX) {
        let now = if given_up { ", given up until a caller asks for it" } else { "" };
        let _written = writeln!(
            lines,
            "tenant {id}: agent {agent} was found signed in by another client at {attempts} sign-ins{now}",
        );
    }
    lines
}

impl Readiness {
    /// Starts as not ready. `warnings` are about unsafe settings in the configuration.
    pub(super) fn new(
        tenants: Tenants,
        warnings: &[String],
        stores: Stores,
        connection_limits: Arc<ConnectionLimits>,
        reloads: Arc<Reloads>,
    ) -> Self {
        let phase = AtomicU8::new(Phase::Starting as u8);
        let warnings = RwLock::new(warnings.join("\n"));
        Self { phase, tenants, stores, connection_limits, reloads, warnings }
    }

    /// Reports "ready" from now on.
    pub(super) fn set_ready(&self) {
        self.phase.store(Phase::Ready as u8, Ordering::Release);
    }

    /// Reports "draining" from now on.
    pub(super) fn set_draining(&self) {
        self.phase.store(Phase::Draining as u8, Ordering::Release);
    }

    /// Whether the bridge is starting, serving or stopping.
    pub(super) fn phase(&self) -> Phase {
        let known = [Phase::Starting, Phase::Ready, Phase::Draining];
        let phase = self.phase.load(Ordering::Acquire);
        known.into_iter().find(|known| *known as u8 == phase).unwrap_or(Phase::Starting)
    }

    /// Takes the warnings of a configuration that is now in force.
    pub(super) fn set_warnings(&self, warnings: &[String]) {
        let mut all = self.warnings.write().unwrap_or_else(PoisonError::into_inner);
        *all = warnings.join("\n");
    }

    /// The warnings about unsafe settings, one a line.
    pub(super) fn warnings(&self) -> String {
        self.warnings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The status and body of `/readyz`.
    pub(super) fn answer(&self) -> (StatusCode, String) {
        let phase = self.phase();
        let status = match phase {
            Phase::Ready => StatusCode::OK,
            Phase::Starting | Phase::Draining => StatusCode::SERVICE_UNAVAILABLE,
        };
        let warnings = self.warnings();
        let end = if warnings.is_empty() { "" } else { "\n" };
        (status, format!("{phase}\n{warnings}{end}"))
    }

    /// The same with `?verbose`, for which it goes through all tenants.
    pub(super) fn verbose(&self) -> (StatusCode, String) {
        let (status, text) = self.answer();
        let connections = self.connections();
        let more = connections + &self.reloads.view().lines() + &self.store() + &self.sessions();
        (status, text + &more)
    }

    /// One line on each connection limit, and one on each cause for which connections were turned
    /// away.
    fn connections(&self) -> String {
        let mut lines = String::new();
        for Usage { resource, limit, taken } in self.connection_limits.usage() {
            let full = if taken >= limit { ", none is free" } else { "" };
            // Writing to a String cannot fail.
            let _written = writeln!(lines, "{resource}: {taken} of {limit}{full}");
        }
        for (cause, count) in
            self.connection_limits.turned_away().into_iter().filter(|(_, n)| *n > 0)
        {
            let _written = writeln!(lines, "connections turned away, {cause}: {count}");
        }
        lines
    }

    /// A line on the store.
    fn store(&self) -> String {
        let Some(StoreView { state, file_bytes, .. }) = self.stores.view() else {
            return String::new();
        };
        match state {
            StoreState::Unused => "store: not asked yet\n".to_owned(),
            StoreState::Up => "store: up\n".to_owned(),
            StoreState::Refusing(refusal) => {
                let (what, advice) = (refusal.scope, refusal.advice);
                format!("store: refuses {what}, {refusal}; {advice}\n")
            }
            StoreState::Down(error) if file_bytes.is_some() => {
                format!("store: down, {error}; sessions are in memory alone\n")
            }
            StoreState::Down(error) => format!("store: down, {error}\n"),
        }
    }

    /// A line for each tenant and session state, and lines for agents whose leases could not be
    /// renewed.
    fn sessions(&self) -> String {
        let mut lines = String::new();
        for tenant in self.tenants.all() {
            let (id, LeaseCounts { overdue, dropped }) = (tenant.id(), tenant.lease_counts());
            for (count, what) in [
                (overdue, "polled without a lease, since the store cannot be asked"),
                (dropped, "not polled any more, since the store cannot be asked"),
            ] {
                if count > 0 {
                    // Writing to a String cannot fail.
                    let _written = writeln!(lines, "tenant {id}: agents {what}: {count}");
                }
            }
            for AddressView { host, state, failed, .. } in tenant.addresses() {
                if state != AddressState::Good {
                    let cause = failed.map(|failed| failed.cause).unwrap_or_default();
                    let state = state.as_str();
                    // Writing to a String cannot fail.
                    let _written =
                        writeln!(lines, "tenant {id}: gateway address {host} {state}: {cause}");
                }
            }
            for StateCount { state, now, entered } in tenant.session_states() {
                let id = tenant.id();
                // Writing to a String cannot fail.
                let _written =
                    writeln!(lines, "tenant {id}: sessions {state} {now}, entered {entered} times");
            }
            lines.push_str(&sign_ins(&tenant));
        }
        lines
    }
}

impl Phase {
    /// The spelling on the admin port.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
