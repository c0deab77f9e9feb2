use tonic::{server::NamedService, service::RoutesBuilder};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::rpc::proto::{
    agent_events_server::AgentEventsServer, agent_session_server::AgentSessionServer,
    agent_state_server::AgentStateServer,
};

/// `grpc.health.v1`, for the server as a whole ("") and for each service.
#[derive(Debug)]
pub(super) struct Health(HealthReporter);

const SERVICES: [&str; 4] = [
    "",
    AgentStateServer::<()>::NAME,
    AgentSessionServer::<()>::NAME,
    AgentEventsServer::<()>::NAME,
];

impl Health {
    /// Adds the health service to `routes`. Everything is reported as serving.
    pub(super) async fn serving(routes: &mut RoutesBuilder) -> Self {
        let (reporter, service) = tonic_health::server::health_reporter();
        routes.add_service(service);
        let health = Self(reporter);
        health.set(ServingStatus::Serving).await;
        health
    }

    /// Reports every service as not serving.
    pub(super) async fn not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    /// Ends the streams of health watchers. Call it after `not_serving`, so that they have been
    /// told.
    pub(super) async fn end_watches(&mut self) {
        for service in SERVICES {
            self.0.clear_service_status(service).await;
        }
    }

    async fn set(&self, status: ServingStatus) {
        for service in SERVICES {
            self.0.set_service_status(service, status).await;
        }
    }
}
