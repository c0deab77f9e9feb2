use std::fmt;

use ::redis::{
    Value,
    aio::{PubSubSink, PubSubStream},
};
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::debug;

use super::{Link, backoff::Backoff};

/// Messages on one channel. Subscribes again by itself when the connection breaks.
pub struct Subscription {
    link: Link,
    channel: String,
    open: Option<Open>,
    backoff: Backoff,
    retry_at: Instant,
}

/// What a subscriber is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The subscription has just begun, or begun again: whatever was published before may have
    /// been missed, and nothing that is published from now on is.
    Gap,
    /// A message.
    Message(Vec<u8>),
}

struct Open {
    sink: PubSubSink,
    stream: PubSubStream,
    /// When the peer has to be asked whether it is still there.
    beat_at: Instant,
}

impl Subscription {
    pub(super) fn new(link: Link, channel: String) -> Self {
        Self { link, channel, open: None, backoff: Backoff::default(), retry_at: Instant::now() }
    }

    /// The next notice. May be dropped while it waits, and loses nothing by that.
    pub async fn next(&mut self) -> Notice {
        loop {
            let Some(open) = &mut self.open else {
                if self.subscribe().await {
                    return Notice::Gap;
                }
                continue;
            };
            let heartbeat = self.link.0.timeouts.heartbeat;
            tokio::select! {
                message = open.stream.next() => match message {
                    Some(message) => {
                        open.beat_at = Instant::now() + heartbeat;
                        return Notice::Message(message.get_payload_bytes().to_vec());
                    }
                    None => self.open = None,
                },
                () = sleep_until(open.beat_at) => {
                    // A peer that is gone without a word never ends the stream.
                    let limit = self.link.0.timeouts.command;
                    let answer = timeout(limit, open.sink.ping::<Value>()).await;
                    if matches!(answer, Ok(Ok(_))) {
                        open.beat_at = Instant::now() + heartbeat;
                    } else {
                        self.open = None;
                    }
                }
            }
        }
    }

    /// Whether there is a subscription now; waits where another attempt would come too early.
    async fn subscribe(&mut self) -> bool {
        sleep_until(self.retry_at).await;
        // In place before the attempt, which may be dropped in the middle.
        self.retry_at = Instant::now() + self.backoff.next_pause();
        let limit = self.link.0.timeouts.command;
        let attempt = async {
            let (mut sink, stream) = self.link.0.dialer.listen().await?.split();
            let subscribed = timeout(limit, sink.subscribe(&self.channel)).await;
            subscribed.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
            Ok::<_, ::redis::RedisError>((sink, stream))
        };
        match attempt.await {
            Ok((sink, stream)) => {
                let beat_at = Instant::now() + self.link.0.timeouts.heartbeat;
                self.open = Some(Open { sink, stream, beat_at });
                self.backoff.reset();
                true
            }
            Err(error) => {
                let error = super::words(&error);
                debug!(error, "cannot listen to Redis");
                // Other tasks go first, also where the clock stands still.
                sleep(std::time::Duration::ZERO).await;
                false
            }
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.open.is_some();
        f.debug_struct("Subscription").field("open", &open).finish_non_exhaustive()
    }
}
