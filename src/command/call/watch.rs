use std::{process::ExitCode, time::Duration};

use tonic::Status;

use super::{Options, connect::Clients, failure, methods::WatchEvents, show::Shown};
use crate::{
    command::{EXIT_FAILED, fail, signals::StopSignals},
    rpc::proto::{WatchEventsRequest, watch_events_response::What},
};

/// A replica that goes away may answer once more before it does.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);

/// Tells events until Ctrl-C.
pub(super) async fn watch(clients: Clients, options: &Options, what: WatchEvents) -> ExitCode {
    let mut signals = match StopSignals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(EXIT_FAILED, format!("cannot listen for signals: {error}")),
    };
    tokio::select! {
        code = follow(&clients, options, what) => code,
        _signal = signals.next() => ExitCode::SUCCESS,
    }
}

/// Replicas that stop and connections that reach their age end a stream; it is begun again after
/// the last event.
async fn follow(clients: &Clients, options: &Options, what: WatchEvents) -> ExitCode {
    let mut position = what.after;
    loop {
        let status = match told(clients, options, &what.agents, &mut position).await {
            Ok(()) => return ExitCode::SUCCESS,
            Err(status) => status,
        };
        let failure = failure::describe(&status, &options.addr);
        if !matches!(failure.reason.as_str(), "CONNECTION_AGED" | "SHUTTING_DOWN") {
            return options.failed(&failure);
        }
        let pause = failure.retry_delay.unwrap_or_default().max(SHORTEST_PAUSE);
        tokio::time::sleep(pause).await;
    }
}

/// Ends well when nobody reads any more, or the bridge has nothing more to tell.
async fn told(
    clients: &Clients,
    options: &Options,
    agents: &[String],
    position: &mut Option<u64>,
) -> Result<(), Status> {
    let request = WatchEventsRequest {
        agent_ids: agents.to_vec(),
        after_sequence: *position,
        tenant_id: options.tenant.clone(),
    };
    let request = Options::request(request, options.deadline);
    let mut stream = clients.events.clone().watch_events(request).await?.into_inner();
    while let Some(event) = stream.message().await? {
        *position = Some(event.sequence);
        let is_progress = matches!(event.what, Some(What::Progress(_)));
        if is_progress && !options.json {
            continue;
        }
        let shown = Shown::from(event);
        let read = if options.json { options.say(&shown) } else { super::print(&shown.headline) };
        if !read {
            return Ok(());
        }
    }
    Ok(())
}
