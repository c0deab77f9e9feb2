use std::fmt;

use ::redis::{
    RedisResult, Value,
    aio::{PubSubSink, PubSubStream},
};
use futures_util::{StreamExt as _, future::BoxFuture};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::debug;

use super::{Link, backoff::Backoff};

/// Messages on one channel. Subscribes again by itself when the connection breaks, when the link has gone to look for another
/// server, and when its commands have got to another one: the messages may be of a server that nobody writes to any more.
pub struct Subscription {
    link: Link,
    channel: String,
    moves: watch::Receiver<u64>,
    open: Option<Open>,
    /// The attempt to subscribe that is under way. It goes on when the next notice is awaited.
    attempt: Option<BoxFuture<'static, RedisResult<(PubSubSink, PubSubStream)>>>,
    backoff: Backoff,
    retry_at: Instant,
}

/// What a subscriber receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The subscription has just begun, or begun again. Messages published before may have been
    /// missed. Those published from now on will not be.
    Gap,
    /// A message.
    Message(Vec<u8>),
}

struct Open {
    sink: PubSubSink,
    stream: PubSubStream,
    /// When to ask the peer whether it is still there.
    beat_at: Instant,
}

impl Subscription {
    pub(super) fn new(link: Link, channel: String) -> Self {
        let (moves, backoff) = (link.inner.moves.subscribe(), Backoff::default());
        Self { link, channel, moves, open: None, attempt: None, backoff, retry_at: Instant::now() }
    }

    /// Waits for the next notice. Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Notice {
        loop {
            let Some(open) = &mut self.open else {
                if self.subscribe().await {
                    return Notice::Gap;
                }
                continue;
            };
            let heartbeat = self.link.inner.timeouts.heartbeat;
            tokio::select! {
                message = open.stream.next() => match message {
                    Some(message) => {
                        open.beat_at = Instant::now() + heartbeat;
                        return Notice::Message(message.get_payload_bytes().to_vec());
                    }
                    None => self.open = None,
                },
                // The sender lives as long as the link.
                _ = self.moves.changed() => self.open = None,
                () = sleep_until(open.beat_at) => {
                    // A peer that is gone without closing the connection never ends the stream.
                    let limit = self.link.inner.timeouts.command;
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

    /// Ends the subscription, also one that is about to begin. The next call begins it again.
    pub fn close(&mut self) {
        (self.open, self.attempt) = (None, None);
    }

    /// Tries to subscribe, after the pause that is due. Returns whether it worked.
    async fn subscribe(&mut self) -> bool {
        if self.attempt.is_none() {
            sleep_until(self.retry_at).await;
            self.retry_at = Instant::now() + self.backoff.next_pause();
            self.moves.mark_unchanged();
        }
        let (link, channel) = (&self.link, &self.channel);
        let attempt = self.attempt.get_or_insert_with(|| {
            let (link, channel) = (link.clone(), channel.clone());
            Box::pin(async move {
                let (mut sink, stream) = link.inner.dialer.listen().await?.split();
                let limit = link.inner.timeouts.command;
                let subscribed = timeout(limit, sink.subscribe(&channel)).await;
                subscribed.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
                Ok((sink, stream))
            })
        });
        let attempted = attempt.as_mut().await;
        self.attempt = None;
        match attempted {
            Ok((sink, stream)) => {
                let beat_at = Instant::now() + self.link.inner.timeouts.heartbeat;
                self.open = Some(Open { sink, stream, beat_at });
                self.backoff.reset();
                true
            }
            Err(error) => {
                let error = super::loggable_text(&error);
                debug!(error, "cannot listen to Redis");
                // Lets other tasks run, even in tests where the clock is paused.
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
