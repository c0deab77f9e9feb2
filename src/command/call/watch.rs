mod told;

use std::{
    io::{self, Write as _},
    mem,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use self::told::Told;
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
    command::{EXIT_FAILED, fail, output::say_on, signals::StopSignals},
    reason,
    rpc::proto::{WatchEventsRequest, watch_events_response::What},
};

/// The shortest pause before a watch is begun again. Without it, a replica that is shutting down would
/// get the new watch as well. It doubles with each attempt that comes to nothing.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause, whatever the bridge says, and how long such an attempt may take.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long after the bridge last sent anything a token that has expired is waited for: whoever replaces the file may do so only
/// then.
const TOKEN_WAIT: Duration = Duration::from_secs(2 * 60);

/// A watch of events. When its stream ends, it begins a new one where the last one stopped.
struct Watching<'a> {
    clients: Clients,
    options: &'a Options,
    agents: Vec<String>,
    /// The number of the last event that was received.
    position: Option<u64>,
    /// When --deadline passes.
    until: Option<Instant>,
    /// When the bridge last sent anything; `None`: the watch is not accepted yet.
    heard: Option<Instant>,
    /// Whether it has since the last stream ended.
    goes_on: bool,
}

/// Prints events until Ctrl-C, or until --deadline passes.
pub(super) async fn watch(clients: Clients, options: &Options, what: WatchEvents) -> Ending {
    let mut signals = match StopSignals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            fail(EXIT_FAILED, format!("cannot listen for signals: {error}"));
            return Ending::NotDone;
        }
    };
    let mut watching = Watching {
        clients,
        options,
        agents: what.agents,
        position: what.after,
        until: options.deadline.map(|deadline| Instant::now() + deadline),
        heard: None,
        goes_on: false,
    };
    tokio::select! {
        ending = watching.follow() => ending,
        _signal = signals.next() => Ending::Done,
    }
}

impl Watching<'_> {
    /// Follows streams one after the other. A stream ends when its replica stops, or is killed, or its connection
    /// reaches its maximum age; the next one begins after the last event.
    async fn follow(&mut self) -> Ending {
        let (mut pause, mut told) = (SHORTEST_PAUSE, Told::default());
        loop {
            let Err(failure) = self.stream().await else { return Ending::Done };
            let is_over = self.left().is_some_and(|left| left.is_zero());
            let has_another_token = self.clients.read_token_again(self.options);
            match failure.reason.as_str() {
                "CONNECTION_AGED" | "SHUTTING_DOWN" => {}
                // The deadline that the user gave has passed; this is no failure.
                "DEADLINE" if self.heard.is_some() => return Ending::Done,
                _ if !is_over && self.may_pass(&failure, has_another_token) => {}
                _ => return self.options.failed(&failure),
            }
            if mem::take(&mut self.goes_on) {
                (pause, told) = (SHORTEST_PAUSE, Told::default());
            }
            // Each stream ends with the age of its connection, and the next one begins at once. Otherwise each new cause is
            // told, once: a bridge that is restarted may come back with a certificate that is not good.
            let cause = failure.in_short();
            if failure.reason != "CONNECTION_AGED" && told.is_news(&cause) {
                let _unread = writeln!(io::stderr(), "{cause}; reconnecting");
            }
            let longest = self.left().unwrap_or(LONGEST_PAUSE).max(SHORTEST_PAUSE);
            let asked_for = failure.retry_delay.unwrap_or_default().clamp(pause, LONGEST_PAUSE);
            sleep(asked_for.min(longest)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether the watch may go on after a while.
    fn may_pass(&self, failure: &Failure, has_another_token: bool) -> bool {
        let Some(heard) = self.heard else { return false };
        // The only replica there is may be restarted, or the token that was shown when the stream began has expired.
        let awaits_token = || Clients::may_get_token(self.options) && heard.elapsed() < TOKEN_WAIT;
        let is_unknown = failure.reason == reason::CALLER_UNKNOWN.name;
        failure.may_pass() || is_unknown && (has_another_token || awaits_token())
    }

    /// The time until --deadline passes.
    fn left(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Follows one stream. Returns `Ok` when stdout takes no more, when the bridge ends the stream without
    /// an error, or when the deadline passes after the stream has begun.
    async fn stream(&mut self) -> Result<(), Failure> {
        let Options { addr, .. } = self.options;
        let left = self.left();
        let attempt = Attempt::new(left);
        let printing = self.print_events(&attempt);
        let printed = match left {
            Some(left) => timeout(left + GRACE, printing).await.ok(),
            None => Some(printing.await),
        };
        match (printed, left) {
            (Some(printed), _) => {
                printed.map_err(|status| failure::describe(&status, &attempt, addr))
            }
            (None, Some(left)) if !self.goes_on => Err(failure::no_answer(&attempt, addr, left)),
            (None, _) => Ok(()),
        }
    }

    /// Prints the events of one stream until it ends or stdout takes no more.
    async fn print_events(&mut self, attempt: &Attempt) -> Result<(), Status> {
        let request = attempt.request(WatchEventsRequest {
            agent_ids: self.agents.clone(),
            after_sequence: self.position,
            tenant_id: self.options.tenant.clone(),
        });
        let mut events = self.clients.events();
        let opening = events.watch_events(request);
        let opened = if self.heard.is_some() {
            // Where the bridge's machine is gone, nothing else ends the attempt for minutes.
            let late =
                |_elapsed| Err(Status::unavailable("the bridge did not answer within ten seconds"));
            timeout(LONGEST_PAUSE, opening).await.unwrap_or_else(late)
        } else {
            opening.await
        };
        let mut stream = opened?.into_inner();
        while let Some(event) = stream.message().await? {
            (self.heard, self.goes_on) = (Some(Instant::now()), true);
            self.position = Some(event.sequence);
            let json = self.options.json;
            if !json && matches!(event.what, Some(What::Progress(_))) {
                continue;
            }
            let shown = Shown::from(event);
            let read = if json { self.options.say(&shown) } else { say_on(&shown.headline) };
            if !read {
                return Ok(());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
