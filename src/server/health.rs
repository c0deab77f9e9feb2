//! `grpc.health.v1`: of the server as a whole, of each service, and of each tenant's gateway.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, stream::unfold};
use tokio::{sync::watch, time::sleep};
use tonic::{Request, Response, Status, server::NamedService};

use crate::{
    access::{Access, Caller},
    id::TenantId,
    rpc::proto::{
        agent_events_server::AgentEventsServer,
        agent_session_server::AgentSessionServer,
        agent_state_server::AgentStateServer,
        health::{
            HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
            health_check_response::ServingStatus,
            health_server::{Health as HealthRpc, HealthServer},
        },
    },
    tenant::{Tenant, Tenants},
};

/// What the health service is told.
#[derive(Debug)]
pub(super) struct Health(Arc<watch::Sender<HealthPhase>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HealthPhase {
    Serving,
    NotServing,
    /// As before, and watches end.
    Over,
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Service {
    phase: Arc<watch::Sender<HealthPhase>>,
    tenants: Tenants,
}

/// What a name means. Nothing longer is kept of it, since a watch may last.
#[derive(Debug)]
enum Subject {
    Server,
    Tenant(TenantId),
    Unknown,
}

/// What one caller watches.
struct Watching {
    service: Service,
    phase: watch::Receiver<HealthPhase>,
    access: Arc<Access>,
    subject: Subject,
    told: Option<ServingStatus>,
}

type Responses = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

/// What does as well as the server does.
const SERVICES: [&str; 4] = [
    "",
    AgentStateServer::<()>::NAME,
    AgentSessionServer::<()>::NAME,
    AgentEventsServer::<()>::NAME,
];
/// A tenant's name is the service's with the tenant's id after a slash.
const OF_TENANTS: &str = AgentStateServer::<()>::NAME;
/// How often a watch looks at its tenant: gateways fail and answer, tenants come and go, and rules
/// change, each without a word to the watch.
const LOOK_EVERY: Duration = Duration::from_secs(1);

// === impl Health ===

impl Health {
    /// Also returns the service. The server is reported as serving.
    pub(super) fn serving(tenants: Tenants) -> (Self, HealthServer<Service>) {
        let phase = Arc::new(watch::Sender::new(HealthPhase::Serving));
        let service = HealthServer::new(Service { phase: phase.clone(), tenants });
        (Self(phase), service)
    }

    /// Reports everything as not serving.
    pub(super) fn not_serving(&self) {
        self.0.send_replace(HealthPhase::NotServing);
    }

    /// Ends the streams of health watchers. Call it after `not_serving`: they are told that first.
    pub(super) fn end_watches(&self) {
        self.0.send_replace(HealthPhase::Over);
    }
}

// === impl Service ===

#[tonic::async_trait]
impl HealthRpc for Service {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let access = access(&request);
        match self.status(&Subject::of(&request.get_ref().service), &access) {
            ServingStatus::ServiceUnknown => Err(Status::not_found(format!(
                "there is no such service, or no such tenant that the caller may use; ask for \
                 \"\", for a service of ccgateway.agent.v1, or for {OF_TENANTS}/<tenant id>"
            ))),
            status => Ok(Response::new(response(status))),
        }
    }

    async fn list(
        &self,
        request: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let access = access(&request);
        let tenants =
            self.tenants.all().into_iter().map(|tenant| format!("{OF_TENANTS}/{}", tenant.id()));
        let names = SERVICES.into_iter().map(str::to_owned).chain(tenants);
        let statuses = names.map(|name| (self.status(&Subject::of(&name), &access), name));
        let known = statuses.filter(|(status, _)| *status != ServingStatus::ServiceUnknown);
        let statuses = known.map(|(status, name)| (name, response(status))).collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = Responses;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Responses>, Status> {
        let access = access(&request);
        let (service, phase) = (self.clone(), self.phase.subscribe());
        let subject = Subject::of(&request.get_ref().service);
        let watching = Watching { service, phase, access, subject, told: None };
        Ok(Response::new(Box::pin(unfold(watching, Watching::next))))
    }
}

impl Service {
    /// How it is doing. A tenant that the caller may not use is unknown, like one that is not there.
    fn status(&self, subject: &Subject, access: &Access) -> ServingStatus {
        let serves = match subject {
            Subject::Server => Some(true),
            Subject::Tenant(id) if access.may_use(id.as_str()) => {
                self.tenants.named(id.as_str()).map(|tenant| is_answered(&tenant))
            }
            Subject::Tenant(_) | Subject::Unknown => None,
        };
        match serves {
            None => ServingStatus::ServiceUnknown,
            Some(true) if *self.phase.borrow() == HealthPhase::Serving => ServingStatus::Serving,
            Some(_) => ServingStatus::NotServing,
        }
    }
}

// === impl Subject ===

impl Subject {
    fn of(name: &str) -> Self {
        if SERVICES.contains(&name) {
            return Self::Server;
        }
        let id = name.strip_prefix(OF_TENANTS).and_then(|rest| rest.strip_prefix('/'));
        id.and_then(|id| TenantId::parse(id).ok()).map_or(Self::Unknown, Self::Tenant)
    }
}

// === impl Watching ===

impl Watching {
    /// Waits for the next status. `None` if the server ends watches.
    async fn next(mut self) -> Option<(Result<HealthCheckResponse, Status>, Self)> {
        loop {
            let is_over = *self.phase.borrow_and_update() == HealthPhase::Over;
            let status = self.service.status(&self.subject, &self.access);
            if self.told.replace(status) != Some(status) {
                return Some((Ok(response(status)), self));
            }
            if is_over {
                return None;
            }
            let may_change = matches!(self.subject, Subject::Tenant(_));
            tokio::select! {
                // The sender is in `service`, so there is always one.
                _changed = self.phase.changed() => {}
                () = sleep(LOOK_EVERY), if may_change => {}
            }
        }
    }
}

fn access<T>(request: &Request<T>) -> Arc<Access> {
    let caller = request.extensions().get::<Caller>();
    caller.map_or_else(|| Arc::new(Access::nobody()), |caller| caller.access.clone())
}

/// Whether an address of the tenant's gateway has not failed lately.
fn is_answered(tenant: &Tenant) -> bool {
    tenant.addresses().iter().any(|address| !address.is_failing)
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
