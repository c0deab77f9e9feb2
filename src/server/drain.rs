//! The orderly end of a bridge: what is stopped, in which order, and how long each step may take.

use std::{slice, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use super::{Bridge, CommonParts};
use crate::{
    call::Deadline,
    config::{Drain, LeftSessions},
    tenant::{SignedOut, Tenant},
};

/// How a bridge stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every call was answered.
    Clean,
    /// `server.drain.timeout` passed first.
    CutShort {
        /// How many connections were still open.
        connections: usize,
        /// How many requests to gateways were still open.
        requests: usize,
    },
}

/// The end of the drain's timeout, reserved for callers to read their last answer. The same time again is reserved for what
/// has to be written after that: the file of sessions, the audit log, events for other replicas, and traces.
const READ_TIME: Duration = Duration::from_secs(1);
/// How long peers may read what they have been sent, at the end of a drain.
const LINGER_TIME: Duration = Duration::from_secs(2);

impl Bridge {
    /// Stops the bridge: reports "not ready", gives callers `delay` to notice, sends GOAWAY, and
    /// waits for the calls in flight. Takes the drain's `delay` and `timeout` at most.
    pub async fn drain(self) -> Drained {
        let Self { readiness, health, tenants, stages, connections, work, .. } = self;
        let (common, drain) = (self.common, self.drain);
        let CommonParts { stores, observed, .. } = &common;
        let (tracer, audit) = (&observed.tracer, &observed.audit);
        let lingering_tasks = self.lingering_tasks;
        info!(delay = ?drain.delay, timeout = ?drain.timeout, "draining: reporting not ready from now on");
        readiness.set_draining();
        health.not_serving();
        tokio::time::sleep(drain.delay).await;

        // Streams of health watchers would otherwise hold their connections open for ever.
        health.end_watches();
        // Before GOAWAY, so that event streams end with the reason that the bridge is stopping.
        work.stopping.cancel();
        stages.goaway.cancel();
        connections.close();
        lingering_tasks.close();
        work.tasks.close();
        let read_time = READ_TIME.min(drain.timeout / 4);
        let tenants = tenants.all();
        let has_replicas = tenants.iter().any(|tenant| tenant.is_kept_by_replicas());
        let is_written = stores.has_file() || has_replicas || tracer.is_on() || audit.is_some();
        let write_time = if is_written { read_time } else { Duration::ZERO };
        let caller_wait = drain.timeout.saturating_sub(read_time + write_time);
        let end = Instant::now() + drain.timeout;
        let all = async {
            part_with_agents(&tenants, (drain.sessions, caller_wait), connections.wait()).await;
            connections.wait().await;
            work.tasks.wait().await;
            // Peers that are still reading have had all this time, and get a little more.
            let _late = timeout(LINGER_TIME.min(drain.timeout / 4), lingering_tasks.wait()).await;
        };
        let mut all = std::pin::pin!(all);
        let mut clean = timeout(caller_wait, &mut all).await.is_ok();
        if !clean {
            work.keeping.cancel();
            work.cutoff.give();
            clean = timeout(read_time, &mut all).await.is_ok();
        }
        for tenant in &tenants {
            tenant.tell_abandoned();
        }
        let left = end.saturating_duration_since(Instant::now()).min(read_time);
        let writing = async {
            let telling = tenants.iter().map(|tenant| tenant.events_told());
            let _late = timeout(left / 2, join_all(telling)).await;
            work.relaying.cancel();
            stores.close().await;
        };
        let auditing = async {
            if let Some(audit) = audit {
                audit.close().await;
            }
        };
        let writing = async { tokio::join!(writing, auditing) };
        let (_late, ()) = tokio::join!(timeout(left, writing), tracer.shut_down(left));
        let (connections, requests) = (connections.len(), work.tasks.len());
        stages.close.cancel();
        if clean {
            info!("drained: every call had its answer");
            return Drained::Clean;
        }
        warn!(
            connections,
            requests,
            "drained: server.drain.timeout passed, and connections or requests were still open"
        );
        Drained::CutShort { connections, requests }
    }
}

/// Stops a tenant that was removed from the configuration, in the steps in which a bridge drains.
pub(super) async fn retire(tenant: Arc<Tenant>, drain: Drain) {
    let (id, work) = (tenant.id(), tenant.work());
    work.stopping.cancel();
    work.tasks.close();
    let all = async {
        let within = (drain.sessions, drain.timeout);
        part_with_agents(slice::from_ref(&tenant), within, tenant.without_calls()).await;
        tenant.without_calls().await;
        work.tasks.wait().await;
    };
    let mut all = std::pin::pin!(all);
    let is_clean = timeout(drain.timeout, &mut all).await.is_ok();
    work.cut_short();
    if !is_clean {
        let _late = timeout(READ_TIME, all).await;
    }
    let _late = timeout(READ_TIME, tenant.events_told()).await;
    work.relaying.cancel();
    tenant.tell_abandoned();
    if is_clean {
        info!(ccgw.tenant.id = %id, "a tenant that was removed has ended");
    } else {
        warn!(ccgw.tenant.id = %id, "a tenant that was removed has ended: server.drain.timeout passed, and calls or requests were still open");
    }
}

/// Hands the agents of these tenants over to other replicas, and leaves or signs out the others, after
/// the last of the tenants' `calls`.
async fn part_with_agents(
    tenants: &[Arc<Tenant>],
    (sessions, within): (LeftSessions, Duration),
    calls: impl Future,
) {
    let handing_over = async {
        // A poll may take ten seconds. If sessions are left as they are, nothing else needs this time.
        let within = match sessions {
            LeftSessions::Leave => within,
            LeftSessions::SignOut => within / 2,
        };
        let _late = timeout(within, hand_over(tenants)).await;
        // Not those of the bridge: a tenant that was removed may still be handing its agents over.
        for tenant in tenants {
            tenant.work().keeping.cancel();
        }
    };
    // Sign out after the last call, since a call may need its session. Wait only half the time, so that
    // a caller who stays cannot prevent the sign-outs.
    let stayed = timeout(within / 2, calls);
    let (_stayed, ()) = tokio::join!(stayed, handing_over);
    leave_sessions(tenants, sessions, Deadline::new(Instant::now(), within / 2)).await;
}

/// Hands the kept sessions over to other replicas, for tenants whose agents replicas share.
async fn hand_over(tenants: &[Arc<Tenant>]) {
    let mut handing_over = JoinSet::new();
    for tenant in tenants.iter().filter(|tenant| tenant.is_kept_by_replicas()) {
        let tenant = tenant.clone();
        handing_over.spawn(async move {
            let kept = tenant.kept();
            tenant.hand_over().await;
            info!(ccgw.tenant.id = %tenant.id(), kept, "sessions were left to the other replicas, or to the next one that starts");
        });
    }
    handing_over.join_all().await;
}

/// Leaves or signs out the kept sessions, as the configuration says, and logs what was done.
async fn leave_sessions(tenants: &[Arc<Tenant>], sessions: LeftSessions, deadline: Deadline) {
    let mut signing_out = JoinSet::new();
    for tenant in tenants {
        match sessions {
            LeftSessions::Leave => {
                let (id, kept) = (tenant.id(), tenant.kept());
                if kept > 0 {
                    info!(ccgw.tenant.id = %id, kept, "sessions are left as they are");
                }
            }
            // All at once: a gateway that does not answer must not take the time of the others.
            LeftSessions::SignOut => {
                signing_out.spawn(sign_out_all(tenant.clone(), deadline));
            }
        }
    }
    signing_out.join_all().await;
}

async fn sign_out_all(tenant: Arc<Tenant>, deadline: Deadline) {
    let (id, SignedOut { sessions, signed_out }) =
        (tenant.id(), tenant.sign_out_all(deadline).await);
    if signed_out < sessions {
        warn!(ccgw.tenant.id = %id, sessions, signed_out, "not all agents were signed out; the gateway signs out the others two minutes after their last request");
    } else if sessions > 0 {
        info!(ccgw.tenant.id = %id, sessions, signed_out, "agents were signed out");
    }
}
