//! Calls over HTTP/2 without TLS, with anything that answers them: as many at once as asked for, or at a fixed rate.
//!
//! A call that is not answered in full ends the load, so no figure is of calls that failed.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{Builder, SendRequest};
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use prost::Message;
use tokio::{
    net::TcpStream,
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinSet,
    time::Instant,
};

use crate::Failure;

/// What is called, and how.
pub(crate) struct Target {
    addr: SocketAddr,
    uri: Uri,
    authorization: Option<HeaderValue>,
    answers: Answers,
    /// Makes the message of the call of this number, in its frame.
    message: Box<dyn Fn(u64) -> Bytes + Send + Sync>,
    /// Calls that have begun, over all connections that there have been.
    begun: AtomicU64,
}

/// What an answer is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// A message, and the status OK.
    Grpc,
    /// The gateway's own, which a proxy has passed on.
    Gateway,
}

/// Connections to a target.
pub(crate) struct Load {
    target: Arc<Target>,
    connections: Vec<SendRequest<Bytes>>,
    /// Calls that have been answered.
    ended: Arc<AtomicU64>,
}

/// When callers stop: whatever comes first.
#[derive(Clone, Copy)]
pub(crate) struct Until {
    pub(crate) calls: u64,
    pub(crate) time: Duration,
}

/// A call at a fixed rate.
#[derive(Clone, Copy)]
pub(crate) struct Timed {
    /// From the moment at which it was due.
    pub(crate) took: Duration,
    /// How much later it began, which is this program's own doing.
    pub(crate) late: Duration,
}

/// What the gateway answers to all requests.
pub(crate) const ANSWER: &str = r#"{"result":{},"message":"success","retcode":"0"}"#;
/// Longer than anything that a load waits for.
pub(crate) const LONG: Duration = Duration::from_secs(300);
const WINDOW: u32 = 1 << 24;

// === impl Target ===

impl Target {
    /// A method of gRPC at this address. `message` makes the request of the call of a number.
    pub(crate) fn new<M: Message>(
        addr: SocketAddr,
        method: &str,
        message: impl Fn(u64) -> M + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let uri = format!("http://{addr}/ccgateway.agent.v1.{method}").parse()?;
        let message = Box::new(move |number| framed(&message(number)));
        let (authorization, answers, begun) = (None, Answers::Grpc, AtomicU64::new(0));
        Ok(Self { addr, uri, authorization, answers, message, begun })
    }

    pub(crate) fn answers(self, answers: Answers) -> Self {
        Self { answers, ..self }
    }

    pub(crate) fn authorized(self, authorization: Option<HeaderValue>) -> Self {
        Self { authorization, ..self }
    }

    async fn call(&self, connection: SendRequest<Bytes>) -> Result<(), Failure> {
        let mut request = Request::post(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(())?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        let mut connection = connection.ready().await?;
        let (response, mut body) = connection.send_request(request, false)?;
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        body.send_data((self.message)(number), true)?;
        self.read(response.await?).await
    }

    async fn read(&self, response: Response<h2::RecvStream>) -> Result<(), Failure> {
        let (head, mut body) = response.into_parts();
        let mut length = 0;
        while let Some(piece) = body.data().await {
            let piece = piece?.len();
            body.flow_control().release_capacity(piece)?;
            length += piece;
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        let is_whole = match self.answers {
            Answers::Grpc => length > 0 && trailers.get("grpc-status").is_some_and(|is| is == "0"),
            Answers::Gateway => length == ANSWER.len(),
        };
        if head.status == StatusCode::OK && is_whole {
            return Ok(());
        }
        Err(format!("{}: {head:?}, {length} bytes, {trailers:?}", self.uri).into())
    }
}

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(length.try_into().unwrap_or(u32::MAX));
    // It has room.
    let _encoded = message.encode(&mut frame);
    frame.freeze()
}

// === impl Load ===

impl Load {
    /// Opens so many connections.
    pub(crate) async fn connect(target: Arc<Target>, connections: usize) -> Result<Self, Failure> {
        let mut opened = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(target.addr).await?;
            stream.set_nodelay(true)?;
            let mut builder = Builder::new();
            builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
            let (sender, connection) = builder.handshake(stream).await?;
            // Its calls tell of an error.
            tokio::spawn(async move { connection.await.ok() });
            opened.push(sender);
        }
        Ok(Self { target, connections: opened, ended: Arc::default() })
    }

    /// Makes so many calls, 64 at once.
    pub(crate) async fn all(target: Target, calls: u64) -> Result<(), Failure> {
        let load = Self::connect(target.into(), 8).await?;
        load.at_once(8, Until { calls, time: LONG }).await?;
        if load.ended() == calls { Ok(()) } else { Err("they took too long".into()) }
    }

    /// How many calls have been answered so far.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Has so many callers on each connection call, each as soon as its call before is answered. Returns the time
    /// of each call.
    pub(crate) async fn at_once(
        &self,
        callers: usize,
        until: Until,
    ) -> Result<Vec<Duration>, Failure> {
        let (end, made) = (Instant::now() + until.time, Arc::new(AtomicU64::new(0)));
        let mut calling = JoinSet::new();
        for connection in self.connections.iter().flat_map(|one| vec![one; callers]) {
            let (target, connection) = (self.target.clone(), connection.clone());
            let [made, ended] = [&made, &self.ended].map(Arc::clone);
            calling.spawn(async move {
                let may_call =
                    |now| now < end && made.fetch_add(1, Ordering::Relaxed) < until.calls;
                let (mut times, mut before) = (Vec::new(), Instant::now());
                while may_call(before) {
                    target.call(connection.clone()).await?;
                    times.push(before.elapsed());
                    ended.fetch_add(1, Ordering::Relaxed);
                    before = Instant::now();
                }
                Ok::<_, Failure>(times)
            });
        }
        let mut times = Vec::new();
        while let Some(caller) = calling.join_next().await {
            times.extend(caller??);
        }
        Ok(times)
    }

    /// Makes calls at this rate, whether or not earlier ones are answered. Each is timed from the moment at which it was
    /// due, so that a server that stands still is charged for all calls that were due meanwhile.
    pub(crate) async fn at_rate(&self, rate: f64, lasts: Duration) -> Result<Vec<Timed>, Failure> {
        let (sender, mut moments) = unbounded_channel();
        thread::spawn(move || keep_time(rate, lasts, &sender));
        let (mut calling, mut connections) = (JoinSet::new(), self.connections.iter().cycle());
        while let Some(due) = moments.recv().await {
            let connection = connections.next().ok_or("no connection")?.clone();
            let target = self.target.clone();
            calling.spawn(async move {
                let late = due.elapsed();
                target.call(connection).await?;
                Ok::<_, Failure>(Timed { took: due.elapsed(), late })
            });
        }
        let mut timed = Vec::new();
        while let Some(call) = calling.join_next().await {
            timed.push(call??);
        }
        Ok(timed)
    }
}

/// Tells the moments at which calls are due. The runtime's own clock would tell them by the millisecond.
fn keep_time(rate: f64, lasts: Duration, moments: &UnboundedSender<Instant>) {
    let begun = Instant::now();
    let times = (0_u32..).map(|number| Duration::from_secs_f64(f64::from(number) / rate));
    for due in times.take_while(|time| *time < lasts).map(|time| begun + time) {
        while let Some(left) = due.checked_duration_since(Instant::now()) {
            thread::park_timeout(left);
        }
        if moments.send(due).is_err() {
            return;
        }
    }
}
