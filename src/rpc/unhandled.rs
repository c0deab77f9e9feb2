//! Answers requests whose message has not been read and will not be.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Response, request::Parts};
use tokio::time::Instant;
use tonic::body::Body;

use super::{
    Shared,
    about::About,
    call_log::{CallLog, Counted, Started},
    timeout,
};
use crate::call::{CallError, Caller, Deadline};

/// Answers requests that no method handles, in the way in which methods answer failed calls: with a
/// status from the table, a log line and counters.
#[derive(Clone, Debug)]
pub struct Unhandled(pub(super) Arc<Shared>);

/// Every method whose request is a single message.
pub(super) const METHODS: [&str; 16] = [
    "ccgateway.agent.v1.AgentEvents/WatchEvents",
    "ccgateway.agent.v1.AgentSession/GetSession",
    "ccgateway.agent.v1.AgentSession/RegisterSession",
    "ccgateway.agent.v1.AgentSession/SignIn",
    "ccgateway.agent.v1.AgentSession/SignOut",
    "ccgateway.agent.v1.AgentState/BatchSetBusy",
    "ccgateway.agent.v1.AgentState/CancelAfterCallWork",
    "ccgateway.agent.v1.AgentState/CancelBusy",
    "ccgateway.agent.v1.AgentState/CancelResting",
    "ccgateway.agent.v1.AgentState/GetState",
    "ccgateway.agent.v1.AgentState/SetAfterCallWork",
    "ccgateway.agent.v1.AgentState/SetBusy",
    "ccgateway.agent.v1.AgentState/SetIdle",
    "ccgateway.agent.v1.AgentState/SetResting",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
];

impl Unhandled {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// When a request with these headers that came at `arrived` has to be answered: by its caller's
    /// deadline, or else by the default one.
    pub fn answer_by(&self, headers: &HeaderMap, arrived: Instant) -> Instant {
        let timeout = own_timeout(headers).unwrap_or(self.0.default_deadline);
        Deadline::new(arrived, timeout).answer_by()
    }

    /// When a stream with these headers that came at `arrived` has to end, if its caller set a
    /// deadline.
    pub fn deadline(&self, headers: &HeaderMap, arrived: Instant) -> Option<Instant> {
        arrived.checked_add(own_timeout(headers)?)
    }

    /// Refuses a request with `error`. Its agent is unknown, since its message has not been read.
    /// Its tenant is unknown too, unless there is only one.
    pub fn refuse(&self, head: &Parts, error: &CallError) -> Response<Body> {
        let path = head.uri.path().trim_start_matches('/');
        let method = METHODS.into_iter().find(|method| *method == path).unwrap_or("unknown");
        let tenant = self.0.tenants.only();
        let tenant_id = tenant.map(|tenant| tenant.id().to_string()).unwrap_or_default();
        let about = About { method, tenant_id, agent_id: String::new() };
        let caller = head.extensions.get::<Caller>();
        let at = caller.map_or_else(Instant::now, |caller| caller.arrived);
        let observed = &self.0.observed;
        let started = Started {
            at,
            timeout: own_timeout(&head.headers),
            counted: Counted { method: observed.metrics.calls.of(method), tenant: tenant.cloned() },
            span: observed.tracer.begin(method, &head.headers, at),
        };
        let record = CallLog::new(about, caller.map(|caller| caller.peer), started);
        record.refuse(error, &self.0).into_http()
    }
}

fn own_timeout(headers: &HeaderMap) -> Option<Duration> {
    timeout::parse(headers.get("grpc-timeout")?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_contract_is_known() {
        let mut methods: Vec<_> = crate::rpc::methods()
            .into_iter()
            .map(|method| format!("{}/{}", method.service, method.name))
            .collect();
        methods.sort();
        let contract: Vec<_> =
            METHODS.into_iter().filter(|method| method.starts_with("ccgateway.")).collect();
        assert_eq!(methods, contract);
    }
}
