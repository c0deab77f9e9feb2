//! Serves a connection that has its slot: its calls, and how it ends.

use std::{
    collections::VecDeque,
    error::Error,
    future::{Future, pending, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, poll, stream::FuturesUnordered};
use hyper_util::rt::TokioIo;
use rand::RngExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::{sleep, timeout},
};

use super::{
    Stages,
    connection_slots::{ServedConnection, Slot},
    frame_budget::FrameBudget,
    linger::{LINGER_MAX, Lent, linger},
    listener_context::{ListenerContext, SharedContext},
    preface::AfterPreface,
    request_counts::RequestCounts,
    service::{Calls, Peer},
    token_bucket::TokenBucket,
    wire::Wire,
};
use crate::{access::PeerAddress, rpc::Unhandled, telemetry::log::refusals};

/// How long a connection that is evicted or past its age must be idle after GOAWAY before it is
/// closed.
const IDLE_GRACE: Duration = Duration::from_millis(250);
/// Time for calls that were sent before their caller had read the GOAWAY. After it, new calls are
/// refused if the slot is wanted or the bridge stops.
const GOAWAY_GRACE: Duration = Duration::from_secs(1);

/// How many of the requests that h2 has refused at once are reported one by one. The others are only
/// counted: a peer can send thousands, and other connections wait meanwhile.
const TOLD_AT_ONCE: u64 = 16;

/// The least time that a peer gets to read why its connection has ended.
const LINGER_MIN: Duration = Duration::from_secs(1);

/// Serves HTTP/2 until the connection ends, or until its age or the bridge ends it. Afterwards the
/// peer may read what it has been sent, without holding a slot.
pub(super) async fn serve_http2<S>(
    stream: AfterPreface<S>,
    peer: Peer,
    slot: Slot,
    context: &ListenerContext,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (served, addr) = (slot.served.clone(), peer.address.addr);
    let (lent, back) = Lent::new(stream);
    // Boxed, so that its memory is freed when it is done.
    let (end, linger_time) = Box::pin(serve_calls(lent, peer, &served, context)).await;
    drop(slot);
    let mut last_frame = Vec::new();
    if let Some(flood) = served.flood() {
        context.shared.connection_limits.note_flood(flood.kind);
        context.shared.connection_limits.misbehaved.note(addr.ip());
        // In the middle of another frame it would be a part of that.
        if !served.requests.is_stalled() {
            last_frame = flood.goaway();
        }
    }
    if let Ok(stream) = back.await
        && !served.buffer.is_cut()
    {
        let lingering = say_and_linger(stream, last_frame);
        spawn_linger(lingering, addr, linger_time.max(LINGER_MIN), context).await;
    }
    end
}

async fn say_and_linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, last_frame: Vec<u8>) {
    if stream.write_all(&last_frame).await.is_ok() {
        linger(stream).await;
    }
}

/// Gives a peer time to read what it has been sent. Runs in a task of its own, which a drain waits
/// for only briefly. When too many connections linger, the address with the most of them loses its
/// oldest.
async fn spawn_linger(
    lingering: impl Future<Output = ()> + Send + 'static,
    peer: SocketAddr,
    time: Duration,
    context: &ListenerContext,
) {
    let mut lingering = Box::pin(timeout(time, lingering));
    // Most peers have closed their side already.
    if poll!(lingering.as_mut()).is_ready() {
        return;
    }
    let SharedContext { connection_limits, stages, .. } = &context.shared;
    let (place, cutoff) = (connection_limits.lingering.enter(peer.ip()), stages.cutoff.clone());
    connection_limits.lingering_tasks.spawn(async move {
        tokio::select! {
            _read = lingering => {}
            () = place.lost() => {}
            () = cutoff.given() => {}
        }
    });
}

/// Serves calls until the connection ends. Returns why it ended, and how much longer its peer may
/// need to read its answers.
async fn serve_calls<S>(
    stream: Lent<AfterPreface<S>>,
    peer: Peer,
    served: &Arc<ServedConnection>,
    context: &ListenerContext,
) -> (Result<(), String>, Duration)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let SharedContext { services, limits, stages, connection_limits } = &context.shared;
    let address = peer.address.clone();
    let [requests, resets] = context.rates;
    let (resets, budget) = if connection_limits.misbehaved.has(address.ip()) {
        (resets.least(), FrameBudget::least(context.streams))
    } else {
        (resets, FrameBudget::new(context.streams))
    };
    let [requests, resets] = [requests, resets].map(TokenBucket::new);
    let calls = Calls::new(services.clone(), peer, served.clone(), requests);
    let wire = Wire::new(stream, served.clone(), budget, resets);
    let unhandled = &services.unhandled;
    // Declared before the connection, so that it is dropped after it and counts a last time.
    let mut undispatched_requests = Undispatched {
        requests: &served.requests,
        unhandled,
        peer: &address,
        noted: 0,
        causes: VecDeque::new(),
    };
    let mut connection = pin!(context.http2.serve_connection(TokioIo::new(wire), calls));
    let ended = |ended: hyper::Result<()>| {
        ended.map_err(|error| {
            if is_of_peer(&error) {
                connection_limits.misbehaved.note(address.ip());
            }
            error.to_string()
        })
    };
    let asked_to_end = polled_apart(async {
        tokio::select! {
            () = sleep(jittered(limits.max_age)) => {}
            () = served.evicted() => {}
            () = stages.goaway.cancelled() => {}
        }
    });
    let mut cut = pin!(polled_apart(served.buffer.cut()));
    let not_read = || Err("closed, since its peer does not read its answers".into());
    let mut flooded = pin!(polled_apart(served.flooded()));
    let flood = || {
        let sent = served.flood().map_or("too much", |flood| flood.kind.as_str());
        Err(format!("closed, since its peer sends {sent}"))
    };
    // Must be asked before the connection is dropped, which discards what has not been sent.
    let linger_time = || served.buffer.linger_time(LINGER_MAX);
    let at_once = tokio::select! {
        biased;
        end = undispatched_requests.watch(connection.as_mut()) => Some(ended(end)),
        () = &mut cut => Some(not_read()),
        () = &mut flooded => Some(flood()),
        () = asked_to_end => None,
    };
    if let Some(end) = at_once {
        return (end, linger_time());
    }
    // Sends GOAWAY. The connection ends by itself after its last call. Event streams have to be
    // told to end.
    served.note_goaway();
    connection.as_mut().graceful_shutdown();
    let ending = async { ended(undispatched_requests.watch(connection.as_mut()).await) };
    let end = tokio::select! {
        biased;
        end = last_calls(ending, served, limits.max_age_grace, stages) => end,
        () = cut => not_read(),
        () = flooded => flood(),
    };
    (end, linger_time())
}

/// Whether a connection ended for what its peer sent, and not because the network failed.
fn is_of_peer(error: &hyper::Error) -> bool {
    let mut causes = std::iter::successors(error.source(), |cause| (*cause).source());
    !error.is_timeout() && !causes.any(<dyn Error>::is::<std::io::Error>)
}

/// Reports requests of a connection that no service has got, since h2 refused them.
struct Undispatched<'a> {
    requests: &'a RequestCounts,
    unhandled: &'a Unhandled,
    peer: &'a Arc<PeerAddress>,
    /// How many have been reported.
    noted: u64,
    /// Why h2 has refused those that have not been reported.
    causes: VecDeque<String>,
}

impl Undispatched<'_> {
    /// Drives the connection. After each poll, h2 has passed on to hyper all requests that it has
    /// read, except those that it has refused.
    async fn watch<C: Future>(&mut self, mut connection: Pin<&mut C>) -> C::Output {
        poll_fn(|context| {
            let polled = connection.as_mut().poll(context);
            // Of this connection alone, since each takes its own after each poll.
            self.causes.extend(refusals());
            if let Some(undispatched) = self.requests.undispatched() {
                self.note(undispatched);
                self.causes.clear();
            }
            polled
        })
        .await
    }

    fn note(&mut self, undispatched: u64) {
        let new = undispatched.saturating_sub(self.noted);
        for _ in 0..new.min(TOLD_AT_ONCE) {
            self.unhandled.note_undispatched(self.peer, self.causes.pop_front());
        }
        self.unhandled.count_undispatched(new.saturating_sub(TOLD_AT_ONCE));
        self.noted += new;
    }
}

impl Drop for Undispatched<'_> {
    fn drop(&mut self) {
        self.note(self.requests.undispatched_at_end());
    }
}

/// Serves the calls of a connection that has got its GOAWAY, until it ends. Each call in progress
/// gets its answer. New calls are refused after `grace`, or after [`GOAWAY_GRACE`] if the slot is
/// wanted or the bridge stops. A connection without a call is closed if its peer does not close it.
async fn last_calls(
    connection: impl Future<Output = Result<(), String>>,
    served: &ServedConnection,
    grace: Duration,
    stages: &Stages,
) -> Result<(), String> {
    let evicted = polled_apart(async {
        served.evicted().await;
        if timeout(GOAWAY_GRACE, has_been_idle(served)).await.is_err() {
            served.refuse_calls();
            has_been_idle(served).await;
        }
    });
    let drained = polled_apart(async {
        stages.goaway.cancelled().await;
        sleep(GOAWAY_GRACE).await;
        served.refuse_calls();
        has_been_idle(served).await;
    });
    let aged = polled_apart(async {
        sleep(grace).await;
        served.refuse_calls();
        has_been_idle(served).await;
    });
    tokio::select! {
        // First, so that a call that has arrived is read before the connection counts as idle.
        biased;
        end = connection => end,
        () = evicted => Err("idle, and closed for a new one".into()),
        () = drained => Err("idle, and closed since the bridge is stopping".into()),
        () = aged => Err("idle, and closed since it has reached its age".into()),
        () = stages.close.cancelled() => Err("the bridge stopped".into()),
    }
}

/// Waits until the connection has been idle for [`IDLE_GRACE`] without a call in between. A peer that does
/// not react to GOAWAY must not stay, but a call that it has sent meanwhile is carried out. An
/// answer that the peer takes slowly is sent to its end, since the connection is not idle before
/// that ([`ServedConnection::idle_since`]). Its last bytes are then on the way, and the grace covers
/// them.
async fn has_been_idle(served: &ServedConnection) {
    let mut before = None;
    loop {
        let idle_since = served.idle_since();
        if idle_since.is_some() && idle_since == before {
            return;
        }
        before = idle_since;
        sleep(IDLE_GRACE).await;
    }
}

/// The same future, polled only when it is woken itself, and not whenever another branch of a
/// `select!` is. Polling it takes locks, and calls should not pay for that.
async fn polled_apart<F: Future>(future: F) -> F::Output {
    let mut one: FuturesUnordered<F> = FuturesUnordered::new();
    one.push(future);
    match one.next().await {
        Some(done) => done,
        None => pending().await,
    }
}

/// A random time within a tenth of `age`, so that connections made together do not end together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(rand::rng().random_range(0.9..=1.1))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::tenant::DetachedWork;

    fn stages() -> Stages {
        Stages::new(&DetachedWork::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_has_arrived_when_the_idle_are_closed_is_carried_out() {
        // Repeated, since a race would not be lost every time.
        for _ in 0..50 {
            let slot = Slot::alone();
            let served = &slot.served;
            served.evict();
            // Reads a call from its socket at the very moment at which it would be closed.
            let connection = async {
                sleep(IDLE_GRACE).await;
                let _open = served.begin();
                sleep(10 * IDLE_GRACE).await;
                Ok(())
            };
            let ended = last_calls(connection, served, 100 * IDLE_GRACE, &stages()).await;
            assert_eq!(ended, Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_closed_after_it_has_been_idle_for_the_whole_grace() {
        let slot = Slot::alone();
        let served = &slot.served;
        served.evict();
        // The time at which the call ends.
        let idle_from = Instant::now() + IDLE_GRACE * 4 / 5;
        let connection = async {
            sleep(IDLE_GRACE * 3 / 5).await;
            let open = served.begin();
            sleep(IDLE_GRACE / 5).await;
            drop(open);
            pending().await
        };
        let ended = last_calls(connection, served, 100 * IDLE_GRACE, &stages()).await;
        assert_eq!(ended, Err("idle, and closed for a new one".into()));
        let idle = idle_from.elapsed();
        assert!((IDLE_GRACE..2 * IDLE_GRACE).contains(&idle), "{idle:?}");
    }
}
