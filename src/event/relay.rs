use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{Event, Events, What};
use crate::{id::AgentId, session::StoreFuture};

/// A tenant's events in a store that its replicas share.
pub trait EventStream: fmt::Debug + Send + Sync {
    /// Adds an event, which the store numbers.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`](crate::session::StoreError::Unavailable), here and below.
    fn add(&self, agent: AgentId, what: What) -> StoreFuture<'_, ()>;

    /// The latest `count` events, oldest first.
    fn latest(&self, count: usize) -> StoreFuture<'_, Vec<Event>>;

    /// Waits a while for events behind that number; gives none if none has come.
    fn after(&self, sequence: u64) -> StoreFuture<'_, Vec<Event>>;
}

/// Tells this replica's events to the others, and theirs to this one.
#[derive(Debug)]
pub struct Relay {
    queue: mpsc::Sender<(AgentId, What)>,
    /// Whether the events that came before this replica have been read.
    ready: watch::Receiver<bool>,
}

/// Events that wait for the store; more are only told here.
const QUEUE: usize = 4096;
/// For a caller who has come to watch.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// Before a store that failed is asked again.
const PAUSE: Duration = Duration::from_millis(500);

impl Relay {
    /// A relay, and what it does for as long as it is run.
    pub fn new(
        stream: Arc<dyn EventStream>,
        events: Arc<Events>,
        kept: usize,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (is_ready, ready) = watch::channel(false);
        let work = async move {
            let hearing = async {
                recall(&*stream, &events, kept).await;
                is_ready.send_replace(true);
                hear(&*stream, &events).await;
            };
            tokio::join!(tell(&*stream, &events, waiting), hearing);
        };
        (Self { queue, ready }, work)
    }

    /// Waits until the events that came before this replica have been read; without the store, not
    /// for long.
    pub async fn ready(&self) {
        let mut ready = self.ready.clone();
        let _late = timeout(READY_WITHIN, ready.wait_for(|ready| *ready)).await;
    }

    /// Tells an event to all replicas, this one among them; gives it back if there is no way to.
    pub fn publish(&self, agent: AgentId, what: What) -> Result<(), What> {
        self.queue.try_send((agent, what)).map_err(|error| error.into_inner().1)
    }
}

async fn tell(
    stream: &dyn EventStream,
    events: &Events,
    mut waiting: mpsc::Receiver<(AgentId, What)>,
) {
    while let Some((agent, what)) = waiting.recv().await {
        if stream.add(agent, what.clone()).await.is_err() {
            // Those who watch here still hear of it; the others cannot.
            events.publish(agent, what);
        }
    }
}

/// Reads what happened before.
async fn recall(stream: &dyn EventStream, events: &Events, kept: usize) {
    loop {
        match stream.latest(kept).await {
            Ok(latest) => {
                if let Some(first) = latest.first() {
                    events.begin_after(first.sequence - 1);
                }
                for event in latest {
                    events.append(event);
                }
                return;
            }
            Err(_unavailable) => sleep(PAUSE).await,
        }
    }
}

async fn hear(stream: &dyn EventStream, events: &Events) {
    loop {
        match stream.after(events.newest()).await {
            Ok(new) => {
                for event in new {
                    events.append(event);
                }
            }
            Err(_unavailable) => sleep(PAUSE).await,
        }
    }
}
