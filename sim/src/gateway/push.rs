//! The older form of push mode: a sign-in names a URL, and each event is sent there in the form of a poll's
//! answer (client). Time limits and repetitions are not known: an event is sent once, and an answer is
//! waited for a while. Only plain HTTP is spoken.

use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::Gateway;
use crate::{agent::Event, record::Ended, reply::Reply};

/// The receiver of a session's events.
struct Receiver {
    gateway: Weak<Gateway>,
    agent: u32,
    /// The number of the session.
    session: u64,
    url: String,
}

enum Step {
    Send(Event, String),
    Wait,
    Over,
}

/// How long the receiver may take to answer.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest answer.
const MAX_ANSWER: u64 = 64 * 1024;

// === impl Gateway ===

impl Gateway {
    /// Sends the session's events to this URL until the session is over.
    pub(super) fn begin_to_push(self: &Arc<Self>, agent: u32, session: u64, url: String) {
        tokio::spawn(Receiver { gateway: Arc::downgrade(self), agent, session, url }.serve());
    }

    /// The next event of the session, with the Guid that is sent with it.
    fn next_to_push(&self, agent: u32, session: u64) -> Step {
        let mut records = self.lock();
        let record = records.record(agent);
        record.apply_due(&self.options);
        let present = record.session.as_ref().filter(|present| present.number == session);
        if let Some(present) = present {
            let guid = present.current().to_owned();
            return record.next_event().map_or(Step::Wait, |event| Step::Send(event, guid));
        }
        let last = record.final_event(Ended::Session(session), &self.options);
        last.map_or(Step::Over, |event| Step::Send(event, String::new()))
    }
}

// === impl Receiver ===

impl Receiver {
    async fn serve(self) {
        loop {
            let Some(gateway) = self.gateway.upgrade() else { return };
            let changed = gateway.lock().record(self.agent).changed.clone();
            // Waits for changes before it looks, so that no event is missed in between.
            let mut notified = std::pin::pin!(changed.notified());
            notified.as_mut().enable();
            match gateway.next_to_push(self.agent, self.session) {
                Step::Over => return,
                Step::Wait => {
                    drop(gateway);
                    notified.await;
                }
                Step::Send(event, guid) => {
                    let body = Reply::event(&gateway.options, self.agent, Some(&event)).body;
                    drop(gateway);
                    self.send(&event, &guid, &body).await;
                }
            }
        }
    }

    async fn send(&self, event: &Event, guid: &str, body: &[u8]) {
        let failure = match timeout(LIMIT, post(&self.url, guid, body)).await {
            Ok(Ok(answer)) if answer.contains(" 200 ") => return,
            Ok(Ok(answer)) => answer.lines().next().unwrap_or_default().to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => "no answer in time".to_owned(),
        };
        tracing::warn!(agent = self.agent, event = %event.kind, failure, "an event was not taken");
    }
}

/// Sends a body and returns the answer.
async fn post(url: &str, guid: &str, body: &[u8]) -> io::Result<String> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "pushUrl is not http://host…");
    let (host, path) = url.strip_prefix("http://").map(split).ok_or_else(wrong)?;
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut stream = TcpStream::connect(address).await?;
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nGuid: {guid}\r\nContent-Type: application/json;charset=UTF-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Host and path of an address.
fn split(address: &str) -> (&str, &str) {
    address.find('/').map_or((address, "/"), |at| address.split_at(at))
}
