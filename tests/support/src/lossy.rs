//! A proxy between the bridge and a gateway that loses requests or answers on command. It speaks plain
//! HTTP.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_util::task::AbortOnDropHandle;

/// Forwards requests to a gateway, except for those that it was told to lose.
#[derive(Debug)]
pub struct LossyProxy {
    /// The address that it listens on.
    pub addr: SocketAddr,
    gateway: SocketAddr,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
}

/// A loss that is planned for a coming request.
#[derive(Debug)]
struct Planned {
    /// A part of the request's first line.
    part: String,
    /// How many such requests come before it and are not lost.
    after: usize,
    loss: Loss,
}

/// A request of which the proxy has read at least the first line.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The first line.
    pub line: String,
    /// The answer that was sent to the bridge.
    pub answer: String,
}

#[derive(Debug, Default)]
struct Shared {
    /// The planned losses.
    losses: Mutex<VecDeque<Planned>>,
    /// Notified when an answer is paused.
    waits: Notify,
    /// Notified when the paused answer may be passed on.
    goes_on: Notify,
    seen: Mutex<Vec<Seen>>,
    /// How many of the next connections are closed as soon as they are accepted.
    closed: AtomicUsize,
    /// How Guids are hidden from the bridge.
    hides: Mutex<Option<Hides>>,
    /// The hidden Guids, by agent.
    guids: Mutex<HashMap<String, String>>,
}

/// How a proxy hides Guids from the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hides {
    /// It removes them from answers.
    Off,
    /// It removes them from answers and adds them to requests, so that the gateway seems to have no
    /// Guids.
    OffAndOn,
}

/// How a request or its answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The connection is closed after the first line of the request.
    InRequest,
    /// The connection is closed after the request, which is not forwarded.
    AfterRequest,
    /// The request is not forwarded; the proxy sends its own answer.
    Unforwarded(Own),
    /// The gateway answers; the connection is closed without a byte of the answer.
    BeforeAnswer,
    /// The gateway answers; the connection is closed in the middle of the answer.
    InAnswer,
    /// The gateway answers; the proxy sends its own answer instead.
    Instead(Own),
    /// The answer is passed on; then the connection is closed.
    AfterAnswer,
    /// The request is not forwarded, and there is no answer.
    Swallowed,
    /// The gateway answers; nothing of the answer is passed on.
    Withheld,
    /// The gateway answers; only half of the answer is passed on.
    HalfWithheld,
    /// The request is forwarded only after [`LossyProxy::go_on`].
    Held,
    /// The gateway answers; the answer is passed on only after [`LossyProxy::go_on`].
    Paused,
}

/// An answer of the proxy's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// The HTTP status.
    pub status: u16,
    /// The seconds in `Retry-After`, if there is one.
    pub retry_after: Option<u32>,
}

impl LossyProxy {
    /// A proxy before this gateway, which does not speak TLS.
    pub async fn to(gateway: SocketAddr) -> Self {
        Self::listen(gateway, Arc::default()).await
    }

    /// The same proxy at another address. The two share the planned losses.
    pub async fn second(&self) -> Self {
        Self::listen(self.gateway, self.shared.clone()).await
    }

    async fn listen(gateway: SocketAddr, shared: Arc<Shared>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let all = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let less = |closed: usize| closed.checked_sub(1);
                if all.closed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
                    continue;
                }
                let all = all.clone();
                tokio::spawn(async move {
                    // It ends when either side closes its connection.
                    let _gone = all.serve(client, gateway).await;
                });
            }
        });
        Self { addr, gateway, shared, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// The address to give the bridge as its gateway.
    pub fn base_url(&self) -> String {
        format!("http://{}/agentgateway/resource", self.addr)
    }

    /// Plans the loss of the next request whose first line contains `part`.
    pub fn lose(&self, part: impl Into<String>, loss: Loss) {
        self.lose_after(0, part, loss);
    }

    /// Like [`LossyProxy::lose`], for the request after `after` such requests.
    pub fn lose_after(&self, after: usize, part: impl Into<String>, loss: Loss) {
        let planned = Planned { part: part.into(), after, loss };
        self.shared.losses.lock().expect("no panic").push_back(planned);
    }

    /// Waits until a request is [`Loss::Held`], or an answer [`Loss::Paused`].
    pub async fn paused(&self) {
        self.shared.waits.notified().await;
    }

    /// Passes on what is held or paused.
    pub fn go_on(&self) {
        self.shared.goes_on.notify_one();
    }

    /// Cancels the planned losses for this part of a first line.
    pub fn forgive(&self, part: &str) {
        self.shared.losses.lock().expect("no panic").retain(|planned| planned.part != part);
    }

    /// Begins to hide Guids from the bridge, or stops it.
    pub fn hide(&self, hides: Option<Hides>) {
        *self.shared.hides.lock().expect("no panic") = hides;
    }

    /// Closes one more of the next connections as soon as it is accepted.
    pub fn close_next(&self) {
        self.shared.closed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many of the next connections are still to be closed.
    pub fn to_close(&self) -> usize {
        self.shared.closed.load(Ordering::Relaxed)
    }

    /// Cancels all planned losses.
    pub fn behave(&self) {
        self.shared.losses.lock().expect("no panic").clear();
        self.shared.closed.store(0, Ordering::Relaxed);
    }

    /// The requests so far whose first line contains `part`.
    pub fn seen(&self, part: &str) -> Vec<Seen> {
        let seen = self.shared.seen.lock().expect("no panic");
        seen.iter().filter(|seen| seen.line.contains(part)).cloned().collect()
    }
}

impl Shared {
    async fn serve(&self, mut client: TcpStream, gateway: SocketAddr) -> Option<()> {
        loop {
            let line = until(&mut client, Vec::new(), b"\r\n").await?;
            let (number, loss) = self.note(&line);
            if loss == Some(Loss::InRequest) {
                return None;
            }
            let request = message(&mut client, line).await?;
            if loss == Some(Loss::Held) {
                self.wait().await;
            }
            let own = match loss {
                Some(Loss::AfterRequest) => return None,
                Some(Loss::Swallowed) => {
                    gone(&client).await;
                    return None;
                }
                Some(Loss::Unforwarded(own)) => Some(own),
                _ => None,
            };
            let answer = if let Some(own) = own {
                own.bytes()
            } else {
                tokio::select! {
                    answer = self.forward(request, gateway) => answer?,
                    () = gone(&client) => return None,
                }
            };
            let (answer, goes_on) = match loss {
                Some(Loss::BeforeAnswer) => return None,
                Some(Loss::InAnswer) => (answer.split_last()?.1.to_vec(), false),
                Some(Loss::Instead(own)) => (own.bytes(), true),
                Some(Loss::AfterAnswer) => (answer, false),
                Some(Loss::Withheld) => {
                    gone(&client).await;
                    return None;
                }
                Some(Loss::HalfWithheld) => {
                    client.write_all(answer.get(..answer.len() / 2)?).await.ok()?;
                    gone(&client).await;
                    return None;
                }
                Some(Loss::Paused) => {
                    self.wait().await;
                    (answer, true)
                }
                _ => (answer, true),
            };
            if let Some(seen) = self.seen.lock().expect("no panic").get_mut(number) {
                seen.answer = String::from_utf8_lossy(&answer).into_owned();
            }
            client.write_all(&answer).await.ok()?;
            if !goes_on {
                return None;
            }
        }
    }

    /// Waits until the test lets it go on.
    async fn wait(&self) {
        self.waits.notify_one();
        self.goes_on.notified().await;
    }

    /// Records a request. Returns its number, and how it is to be lost.
    fn note(&self, line: &[u8]) -> (usize, Option<Loss>) {
        let line = String::from_utf8_lossy(line).into_owned();
        let mut losses = self.losses.lock().expect("no panic");
        let found = losses.iter().position(|planned| line.contains(planned.part.as_str()));
        let loss = found.and_then(|found| match losses.get_mut(found) {
            Some(planned) if planned.after > 0 => {
                planned.after -= 1;
                None
            }
            _ => losses.remove(found).map(|planned| planned.loss),
        });
        let mut seen = self.seen.lock().expect("no panic");
        seen.push(Seen { line, answer: String::new() });
        (seen.len() - 1, loss)
    }

    async fn forward(&self, mut request: Vec<u8>, gateway: SocketAddr) -> Option<Vec<u8>> {
        let hides = *self.hides.lock().expect("no panic");
        let agent = agent(&request);
        if hides == Some(Hides::OffAndOn) {
            let known = self.guids.lock().expect("no panic").get(&agent).cloned();
            if let Some(guid) = known {
                add_header(&mut request, &format!("Guid: {guid}"));
            }
        }
        let mut upstream = TcpStream::connect(gateway).await.ok()?;
        upstream.write_all(&request).await.ok()?;
        let answer = message(&mut upstream, Vec::new()).await?;
        if hides.is_none() {
            return Some(answer);
        }
        let (answer, guid) = without_guid(&answer);
        if let Some(guid) = guid {
            self.guids.lock().expect("no panic").insert(agent, guid);
        }
        Some(answer)
    }
}

/// Waits until the bridge has closed the connection.
async fn gone(client: &TcpStream) {
    // The bridge sends nothing before it has the answer, so a readable connection is a closed one.
    let _closed = client.peek(&mut [0]).await;
}

/// The agent's id in a request's first line.
fn agent(request: &[u8]) -> String {
    let text = String::from_utf8_lossy(request);
    let ids = text.split(['/', ' ', '?']).filter(|part| !part.is_empty());
    let mut ids = ids.filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    ids.next().unwrap_or_default().to_owned()
}

fn add_header(message: &mut Vec<u8>, header: &str) {
    let line = message.windows(2).position(|pair| pair == b"\r\n").expect("a first line") + 2;
    message.splice(line..line, format!("{header}\r\n").into_bytes());
}

/// An answer without its Guid, and the Guid.
fn without_guid(answer: &[u8]) -> (Vec<u8>, Option<String>) {
    let text = String::from_utf8_lossy(answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let is_guid = |line: &&str| {
        let line = line.to_ascii_lowercase();
        line.starts_with("set-guid:") || line.starts_with("guid:")
    };
    let guid = head.lines().find(is_guid).and_then(|line| line.split([':', '=']).next_back());
    let kept: Vec<_> = head.lines().filter(|line| !is_guid(line)).collect();
    (format!("{}\r\n\r\n{body}", kept.join("\r\n")).into_bytes(), guid.map(|g| g.trim().into()))
}

impl Own {
    fn bytes(self) -> Vec<u8> {
        let Self { status, retry_after } = self;
        let wait = retry_after.map(|wait| format!("Retry-After: {wait}\r\n")).unwrap_or_default();
        let body = "upstream connect error or disconnect/reset before headers";
        let length = body.len();
        format!(
            "HTTP/1.1 {status} Own\r\n{wait}Content-Type: text/plain\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

/// Reads the rest of a message that begins with `read`.
async fn message(stream: &mut TcpStream, read: Vec<u8>) -> Option<Vec<u8>> {
    let mut message = until(stream, read, b"\r\n\r\n").await?;
    let head = String::from_utf8_lossy(&message).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(Some(0), |length| length.trim().parse().ok())?;
    let head = message.len();
    message.resize(head + length, 0);
    stream.read_exact(message.get_mut(head..)?).await.ok()?;
    Some(message)
}

/// Reads until the bytes `end`, and no further.
async fn until(stream: &mut TcpStream, mut read: Vec<u8>, end: &[u8]) -> Option<Vec<u8>> {
    while !read.ends_with(end) {
        read.push(stream.read_u8().await.ok()?);
    }
    Some(read)
}
