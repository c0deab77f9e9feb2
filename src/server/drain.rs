//! The orderly end of a bridge: what is stopped, in which order, and how long each step may take.

use std::{slice, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use super::Bridge;
use crate::{
    call::Deadline,
    config::{Drain, LeftSessions},
    tenant::{DetachedWork, SignedOut, Tenant},
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

/// The end of the drain's timeout, reserved for callers to read their last answer. If sessions are
/// kept in a file, the same time again is reserved for writing it.
const READ_TIME: Duration = Duration::from_secs(1);
/// How long peers may read what they have been sent, at the end of a drain.
const LINGER_TIME: Duration = Duration::from_secs(2);

impl Bridge {
    /// Stops the bridge: reports "not ready", gives callers `delay` to notice, sends GOAWAY, and
    /// waits for the calls in flight. Takes the drain's `delay` and `timeout` at most.
    pub async fn drain(self) -> Drained {
        let Self { readiness, health, tenants, stages, connections, work, .. } = self;
        let (tracer, stores, drain) = (self.tracer, self.stores, self.drain);
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
        // What remains after the callers' time is for writing the file.
        let to_store = if stores.has_file() { read_time } else { Duration::ZERO };
        let caller_wait = drain.timeout.saturating_sub(read_time + to_store);
        let end = Instant::now() + drain.timeout;
        let tenants = tenants.all();
        let all = async {
            part_with_agents(&tenants, &work, (drain.sessions, caller_wait), connections.wait())
                .await;
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
        let (_late, ()) = tokio::join!(timeout(left, stores.close()), tracer.shut_down(left));
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
        part_with_agents(slice::from_ref(&tenant), work, within, tenant.without_calls()).await;
        tenant.without_calls().await;
        work.tasks.wait().await;
    };
    let mut all = std::pin::pin!(all);
    let is_clean = timeout(drain.timeout, &mut all).await.is_ok();
    work.end();
    if !is_clean {
        let _late = timeout(READ_TIME, all).await;
    }
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
    work: &DetachedWork,
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
        work.keeping.cancel();
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
