//! A gateway whose answers a test writes byte by byte.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::task::AbortOnDropHandle;

/// A gateway that accepts every request, except for those that it has a script for.
#[derive(Debug)]
pub struct RawGateway {
    /// The address that it listens on.
    pub addr: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
}

/// What the gateway does after it has read a request, step by step. If it does not close the
/// connection, it reads the next request from it afterwards.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes again and again until the bridge closes the connection.
    Flood(Vec<u8>),
    /// Sends nothing for this long.
    Pause(Duration),
    /// Tells the test, which waits by [`RawGateway::told`].
    Tell,
    /// Ends TLS with `close_notify`, and closes the connection.
    End,
    /// Closes the connection without a `close_notify`.
    Close,
    /// Resets the connection.
    Reset,
    /// Waits until the bridge closes the connection.
    Hang,
}

/// A request as the gateway got it.
#[derive(Clone, Debug)]
pub struct Got {
    /// Its head.
    pub head: String,
    /// The number of the connection that it came on.
    pub connection: usize,
}

#[derive(Debug, Default)]
struct Shared {
    scripts: Mutex<VecDeque<Vec<Step>>>,
    got: Mutex<Vec<Got>>,
    connections: AtomicUsize,
    flooded: AtomicUsize,
    told: Notify,
}

/// What a script leaves of a connection.
enum After<S> {
    Open(S),
    Closed,
}

/// An accepting answer with these header lines, each of which ends with CR LF.
pub fn accepting(headers: &str) -> Vec<u8> {
    answer(headers, ACCEPTED)
}

/// An answer with status 200, a `Content-Length`, these header lines and this body.
pub fn answer(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The body of an answer that accepts a request.
pub const ACCEPTED: &str = r#"{"message":"success","retcode":"0"}"#;

impl RawGateway {
    /// A gateway without TLS.
    pub async fn plain() -> Self {
        Self::listen(None).await
    }

    /// A gateway with TLS and a certificate of its own.
    pub async fn tls() -> Self {
        Self::listen(Some(acceptor())).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::<Shared>::default();
        let all = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let _set = client.set_nodelay(true);
                let (all, tls) = (all.clone(), tls.clone());
                let number = all.connections.fetch_add(1, Ordering::Relaxed);
                // It ends when either side closes the connection.
                tokio::spawn(async move {
                    match tls {
                        None => all.serve(client, number).await,
                        Some(tls) => match tls.accept(client).await {
                            Ok(client) => all.serve(client, number).await,
                            Err(_refused) => None,
                        },
                    }
                });
            }
        });
        let accepting = AbortOnDropHandle::new(accepting);
        Self { addr, scheme, shared, _accepting: accepting }
    }

    /// The address to give the bridge as its gateway.
    pub fn base_url(&self) -> String {
        format!("{}://{}/agentgateway/resource", self.scheme, self.addr)
    }

    /// Plays this script at the next request that has none yet.
    pub fn script(&self, steps: impl Into<Vec<Step>>) {
        self.shared.scripts.lock().expect("no panic").push_back(steps.into());
    }

    /// The requests so far.
    pub fn got(&self) -> Vec<Got> {
        self.shared.got.lock().expect("no panic").clone()
    }

    /// Waits for the next [`Step::Tell`].
    pub async fn told(&self) {
        self.shared.told.notified().await;
    }

    /// How many bytes have been sent by [`Step::Flood`].
    pub fn flooded(&self) -> usize {
        self.shared.flooded.load(Ordering::Relaxed)
    }
}

impl Shared {
    async fn serve<S: Connection>(&self, mut client: S, connection: usize) -> Option<()> {
        loop {
            let head = head(&mut client).await?;
            let is_sign_in = head.starts_with("PUT ");
            self.got.lock().expect("no panic").push(Got { head, connection });
            let script = self.scripts.lock().expect("no panic").pop_front();
            let guid = if is_sign_in { "Set-GUID: JSESSIONID=canary.N1\r\n" } else { "" };
            let script = script.unwrap_or_else(|| vec![Step::Send(accepting(guid))]);
            client = match self.play(client, script).await? {
                After::Open(client) => client,
                After::Closed => return None,
            };
        }
    }

    async fn play<S: Connection>(&self, mut client: S, script: Vec<Step>) -> Option<After<S>> {
        for step in script {
            match step {
                Step::Send(bytes) => {
                    client.write_all(&bytes).await.ok()?;
                    client.flush().await.ok()?;
                }
                Step::Flood(bytes) => loop {
                    client.write_all(&bytes).await.ok()?;
                    self.flooded.fetch_add(bytes.len(), Ordering::Relaxed);
                },
                Step::Pause(time) => tokio::time::sleep(time).await,
                Step::Tell => self.told.notify_one(),
                Step::End => {
                    client.shutdown().await.ok()?;
                    return Some(After::Closed);
                }
                Step::Close => {
                    drop(client.into_tcp());
                    return Some(After::Closed);
                }
                Step::Reset => {
                    let tcp = client.into_tcp();
                    tcp.set_zero_linger().ok()?;
                    return Some(After::Closed);
                }
                Step::Hang => {
                    // The bridge sends nothing before it has the answer.
                    let _closed = client.read(&mut [0]).await;
                    return Some(After::Closed);
                }
            }
        }
        Some(After::Open(client))
    }
}

trait Connection: AsyncRead + AsyncWrite + Unpin + Send {
    /// The socket, without the TLS on it.
    fn into_tcp(self) -> TcpStream;
}

impl Connection for TcpStream {
    fn into_tcp(self) -> TcpStream {
        self
    }
}

impl Connection for TlsStream<TcpStream> {
    fn into_tcp(self) -> TcpStream {
        self.into_inner().0
    }
}

/// Reads a request to its end, and returns its head.
async fn head<S: Connection>(client: &mut S) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length:"));
    let mut body = vec![0; length.map_or(Some(0), |length| length.trim().parse().ok())?];
    client.read_exact(&mut body).await.ok()?;
    Some(head)
}

fn acceptor() -> TlsAcceptor {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let certificate = CertificateDer::from(own.cert.der().to_vec());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a configuration");
    TlsAcceptor::from(Arc::new(config))
}
