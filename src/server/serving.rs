//! A connection that has its place: its calls, and how it ends.

use std::{
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
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};

use super::{
    Stages,
    callers::{Callers, CommonCallers},
    heads::Heads,
    house::{Guest, Stay},
    linger::{Lent, READ_OUT, linger},
    opening::Opened,
    service::Calls,
    wire::Wire,
};
use crate::rpc::Unread;

/// Time for a connection that makes room, or is past its age, to answer to its GOAWAY.
const ROOM_GRACE: Duration = Duration::from_millis(250);
/// Time for calls that were sent before their caller had read the GOAWAY. A caller that goes on
/// after it is refused, where its place is wanted or the bridge stops.
const CROSSING: Duration = Duration::from_secs(1);

/// What a peer gets at least for reading why its connection has ended.
const LINGER_MIN: Duration = Duration::from_secs(1);

/// Serves HTTP/2 until the connection ends, its age or the bridge ends it. Then its peer may read what
/// it has been sent, without a place in the house.
pub(super) async fn serve_http2<S>(
    stream: Opened<S>,
    peer: SocketAddr,
    stay: Stay,
    callers: &Callers,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let guest = stay.guest.clone();
    let (lent, back) = Lent::new(stream);
    // In a box, so that it takes no memory when it is over.
    let (end, read_out) = Box::pin(serve_calls(lent, peer, &guest, callers)).await;
    drop(stay);
    if let Ok(stream) = back.await
        && !guest.buffer.is_cut()
    {
        let_read(stream, peer, read_out.max(LINGER_MIN), callers).await;
    }
    end
}

/// Gives a peer time to read what it has been sent, in a task of its own, for which a drain does not
/// wait. The first to go where too many take that time are those of the address that has most of them.
async fn let_read<S>(stream: S, peer: SocketAddr, time: Duration, callers: &Callers)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut lingering = Box::pin(timeout(time, linger(stream)));
    // Most peers have closed their side already.
    if poll!(lingering.as_mut()).is_ready() {
        return;
    }
    let CommonCallers { entrance, stages, .. } = &callers.common;
    let (place, cutoff) = (entrance.lingering.enter(peer.ip()), stages.cutoff.clone());
    entrance.last_moments.spawn(async move {
        tokio::select! {
            _read = lingering => {}
            () = place.lost() => {}
            () = cutoff.given() => {}
        }
    });
}

/// Serves calls until the connection ends; gives why it has, and how much longer its peer may need to
/// read its answers.
async fn serve_calls<S>(
    stream: Lent<Opened<S>>,
    peer: SocketAddr,
    guest: &Arc<Guest>,
    callers: &Callers,
) -> (Result<(), String>, Duration)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let CommonCallers { services, limits, stages, .. } = &callers.common;
    let calls = Calls::new(services.clone(), peer, guest.clone());
    let wire = Wire::new(stream, guest.clone());
    let unread = &services.unread;
    // Before the connection, so that it is dropped after it and looks once more.
    let mut unseen = Unseen { heads: &guest.heads, unread, peer, noted: 0 };
    let mut connection = pin!(callers.http2.serve_connection(TokioIo::new(wire), calls));
    let ended = |ended: hyper::Result<()>| ended.map_err(|error| error.to_string());
    let asked_to_end = apart(async {
        tokio::select! {
            () = sleep(jittered(limits.max_age)) => {}
            () = guest.gives_way() => {}
            () = stages.goaway.cancelled() => {}
        }
    });
    let mut cut = pin!(apart(guest.buffer.cut()));
    let not_read = || Err("closed, since its peer does not read".into());
    // Before the connection is dropped, and what it has not sent with it.
    let read_out = || guest.buffer.read_out(READ_OUT);
    let at_once = tokio::select! {
        biased;
        end = unseen.watch(connection.as_mut()) => Some(ended(end)),
        () = &mut cut => Some(not_read()),
        () = asked_to_end => None,
    };
    if let Some(end) = at_once {
        return (end, read_out());
    }
    // GOAWAY; the connection then ends by itself after its last call. Streams would go on.
    guest.leave();
    connection.as_mut().graceful_shutdown();
    let ending = async { ended(unseen.watch(connection.as_mut()).await) };
    let end = tokio::select! {
        biased;
        end = last_calls(ending, guest, limits.max_age_grace, stages) => end,
        () = cut => not_read(),
    };
    (end, read_out())
}

/// Tells of the requests of a connection that no service has seen.
struct Unseen<'a> {
    heads: &'a Heads,
    unread: &'a Unread,
    peer: SocketAddr,
    /// How many have been told of.
    noted: u64,
}

impl Unseen<'_> {
    /// Drives the connection. After each step, h2 has given hyper all requests that it has read, but
    /// for those that it has refused.
    async fn watch<C: Future>(&mut self, mut connection: Pin<&mut C>) -> C::Output {
        poll_fn(|context| {
            let polled = connection.as_mut().poll(context);
            if let Some(missing) = self.heads.missing() {
                self.note(missing);
            }
            polled
        })
        .await
    }

    fn note(&mut self, missing: u64) {
        while self.noted < missing {
            self.noted += 1;
            self.unread.unseen(self.peer);
        }
    }
}

impl Drop for Unseen<'_> {
    fn drop(&mut self) {
        self.note(self.heads.missing_in_the_end());
    }
}

/// Serves the calls of a connection that has got its GOAWAY, until it ends. Each call under way gets
/// its answer; new ones are refused after `grace`, or after [`CROSSING`] if the place is wanted or
/// the bridge stops. A connection without a call is closed where its peer does not do it.
async fn last_calls(
    connection: impl Future<Output = Result<(), String>>,
    guest: &Guest,
    grace: Duration,
    stages: &Stages,
) -> Result<(), String> {
    let in_the_way = apart(async {
        guest.gives_way().await;
        if timeout(CROSSING, has_been_idle(guest)).await.is_err() {
            guest.close();
            has_been_idle(guest).await;
        }
    });
    let drained = apart(async {
        stages.goaway.cancelled().await;
        sleep(CROSSING).await;
        guest.close();
        has_been_idle(guest).await;
    });
    let aged = apart(async {
        sleep(grace).await;
        guest.close();
        has_been_idle(guest).await;
    });
    tokio::select! {
        // First, so that a call that has arrived is read before the connection counts as idle.
        biased;
        end = connection => end,
        () = in_the_way => Err("idle, and closed for a new one".into()),
        () = drained => Err("idle, and closed since the bridge stops".into()),
        () = aged => Err("idle, and closed since it is old".into()),
        () = stages.close.cancelled() => Err("the bridge stopped".into()),
    }
}

/// Waits until the connection is idle, and was so [`ROOM_GRACE`] ago, without a call in between. A peer that
/// does not answer to its GOAWAY must not stay; a call that it has sent meanwhile is carried out.
/// An answer that the peer takes slowly is sent to its end, since its connection is not idle before
/// ([`Guest::idle_since`]); the grace is for its last bytes, which are then on the way.
async fn has_been_idle(guest: &Guest) {
    let mut before = None;
    loop {
        let idle_since = guest.idle_since();
        if idle_since.is_some() && idle_since == before {
            return;
        }
        before = idle_since;
        sleep(ROOM_GRACE).await;
    }
}

/// The same future, polled only when it is woken, and not whenever its neighbours in a `select!`
/// are: those look at locks each time, which a call should not pay for.
async fn apart<F: Future>(future: F) -> F::Output {
    let mut one: FuturesUnordered<F> = FuturesUnordered::new();
    one.push(future);
    match one.next().await {
        Some(done) => done,
        None => pending().await,
    }
}

/// Within a tenth of `age`, so that connections made together do not end together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(rand::rng().random_range(0.9..=1.1))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::tenant::Work;

    fn stages() -> Stages {
        Stages::before(&Work::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_has_arrived_when_the_idle_are_closed_is_carried_out() {
        // More than once: a race would be lost by chance.
        for _ in 0..50 {
            let stay = Stay::alone();
            let guest = &stay.guest;
            guest.make_way();
            // Reads a call from its socket at the moment at which it would be closed.
            let connection = async {
                sleep(ROOM_GRACE).await;
                let _open = guest.begin();
                sleep(10 * ROOM_GRACE).await;
                Ok(())
            };
            let ended = last_calls(connection, guest, 100 * ROOM_GRACE, &stages()).await;
            assert_eq!(ended, Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_closed_after_it_has_been_idle_for_the_whole_grace() {
        let stay = Stay::alone();
        let guest = &stay.guest;
        guest.make_way();
        // When the call ends.
        let idle_from = Instant::now() + ROOM_GRACE * 4 / 5;
        let connection = async {
            sleep(ROOM_GRACE * 3 / 5).await;
            let open = guest.begin();
            sleep(ROOM_GRACE / 5).await;
            drop(open);
            pending().await
        };
        let ended = last_calls(connection, guest, 100 * ROOM_GRACE, &stages()).await;
        assert_eq!(ended, Err("idle, and closed for a new one".into()));
        let idle = idle_from.elapsed();
        assert!((ROOM_GRACE..2 * ROOM_GRACE).contains(&idle), "{idle:?}");
    }
}
