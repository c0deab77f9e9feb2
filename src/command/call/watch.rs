use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

use super::{
    GRACE, Options,
    attempt::Attempt,
    connect::Clients,
    ending::Ending,
    failure::{self, Failure},
    methods::WatchEvents,
    show::Shown,
};
use crate::{
    command::{EXIT_FAILED, fail, signals::StopSignals},
    rpc::proto::{WatchEventsRequest, watch_events_response::What},
};

/// A replica that goes away may answer once more before it does.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);

/// A watch that is begun again where a stream has ended.
struct Watching<'a> {
    clients: &'a Clients,
    options: &'a Options,
    agents: Vec<String>,
    /// The number of the last event that was told.
    position: Option<u64>,
    /// When --deadline passes.
    until: Option<Instant>,
    /// Whether the bridge has let it begin.
    begun: bool,
}

/// Tells events until Ctrl-C, or for as long as --deadline says.
pub(super) async fn watch(clients: Clients, options: &Options, what: WatchEvents) -> Ending {
    let mut signals = match StopSignals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            fail(EXIT_FAILED, format!("cannot listen for signals: {error}"));
            return Ending::NotDone;
        }
    };
    let mut watching = Watching {
        clients: &clients,
        options,
        agents: what.agents,
        position: what.after,
        until: options.deadline.map(|deadline| Instant::now() + deadline),
        begun: false,
    };
    tokio::select! {
        ending = watching.follow() => ending,
        _signal = signals.next() => Ending::Done,
    }
}

impl Watching<'_> {
    /// Replicas that stop and connections that reach their age end a stream; it is begun again after
    /// the last event.
    async fn follow(&mut self) -> Ending {
        loop {
            let Err(failure) = self.stream().await else { return Ending::Done };
            match failure.reason.as_str() {
                "CONNECTION_AGED" | "SHUTTING_DOWN" => {}
                // It has watched for as long as it was to.
                "DEADLINE" if self.begun => return Ending::Done,
                _ => return self.options.failed(&failure),
            }
            let pause = failure.retry_delay.unwrap_or_default().max(SHORTEST_PAUSE);
            tokio::time::sleep(pause).await;
        }
    }

    /// Follows one stream. Ends well when nobody reads any more, the bridge has nothing more to tell
    /// or the time is over.
    async fn stream(&mut self) -> Result<(), Failure> {
        let Options { addr, .. } = self.options;
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        let attempt = Attempt::new(left);
        let telling = self.tell(&attempt);
        let told = match left {
            Some(left) => tokio::time::timeout(left + GRACE, telling).await.ok(),
            None => Some(telling.await),
        };
        match (told, left) {
            (Some(told), _) => told.map_err(|status| failure::describe(&status, &attempt, addr)),
            (None, Some(left)) if !self.begun => Err(failure::silent(&attempt, addr, left)),
            (None, _) => Ok(()),
        }
    }

    async fn tell(&mut self, attempt: &Attempt) -> Result<(), Status> {
        let request = attempt.request(WatchEventsRequest {
            agent_ids: self.agents.clone(),
            after_sequence: self.position,
            tenant_id: self.options.tenant.clone(),
        });
        let mut stream = self.clients.events.clone().watch_events(request).await?.into_inner();
        while let Some(event) = stream.message().await? {
            self.begun = true;
            self.position = Some(event.sequence);
            let json = self.options.json;
            if !json && matches!(event.what, Some(What::Progress(_))) {
                continue;
            }
            let shown = Shown::from(event);
            let read = if json { self.options.say(&shown) } else { super::print(&shown.headline) };
            if !read {
                return Ok(());
            }
        }
        Ok(())
    }
}
