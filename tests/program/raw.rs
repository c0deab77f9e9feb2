//! HTTP/2 written and read frame by frame, for peers that do what no library does.

use std::net::SocketAddr;

use prost::Message;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// Of a setting.
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
/// The last stream of a GOAWAY that leaves it open.
pub(crate) const ANY_STREAM: u32 = (1 << 31) - 1;

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection whose frames are told.
#[derive(Debug)]
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    fn of(stream: TcpStream) -> Self {
        // Otherwise each request waits for an acknowledgement of its head.
        stream.set_nodelay(true).expect("an option of TCP");
        Self(stream)
    }

    /// Connects and says nothing.
    pub(crate) async fn silent(addr: SocketAddr) -> Self {
        Self::of(TcpStream::connect(addr).await.expect("connected"))
    }

    /// Connects and says the preface and these settings.
    pub(crate) async fn connect(addr: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut raw = Self::silent(addr).await;
        raw.open(settings).await;
        raw
    }

    /// The same from another address of this machine.
    pub(crate) async fn connect_from(from: SocketAddr, addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(from).expect("an address of this machine");
        let mut raw = Self::of(socket.connect(addr).await.expect("connected"));
        raw.open(&[]).await;
        raw
    }

    async fn open(&mut self, settings: &[(u16, u32)]) {
        let settings = settings
            .iter()
            .map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
        let settings: Vec<_> = settings.flatten().collect();
        self.write(&[PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat()).await;
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("sent");
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.write(&frame(kind, flags, stream, payload)).await;
    }

    /// Sends a whole request; `timeout` as gRPC writes it.
    pub(crate) async fn request(
        &mut self,
        stream: u32,
        path: &str,
        timeout: &str,
        message: &impl Message,
    ) {
        self.begin(stream, path, timeout).await;
        self.message(stream, END_STREAM, &message.encode_to_vec()).await;
    }

    /// Sends the head of a request.
    pub(crate) async fn begin(&mut self, stream: u32, path: &str, timeout: &str) {
        self.send(HEADERS, END_HEADERS, stream, &request_head(path, timeout)).await;
    }

    /// Sends a message of a request.
    pub(crate) async fn message(&mut self, stream: u32, flags: u8, message: &[u8]) {
        let length = u32::try_from(message.len()).expect("short").to_be_bytes();
        self.send(DATA, flags, stream, &[&[0][..], &length, message].concat()).await;
    }

    /// Sends no more, and waits until the bridge has closed the connection.
    pub(crate) async fn hang_up(mut self) {
        self.0.shutdown().await.expect("sent");
        while self.next().await.is_some() {}
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// Reads until a frame is of this kind, and acknowledges settings on the way.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                self.send(SETTINGS, ACK, 0, &[]).await;
            }
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }
}

impl Frame {
    /// The last stream that a GOAWAY names, and its error.
    pub(crate) fn goaway(&self) -> Option<(u32, u32)> {
        let number = |at: usize| {
            let bytes = self.payload.get(at..at + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        (self.kind == GOAWAY).then_some((number(0)?, number(4)?))
    }

    /// Whether it is the end of this stream, as the bridge sends it.
    pub(crate) fn ends(&self, stream: u32) -> bool {
        self.kind == HEADERS && self.stream == stream && self.flags & END_STREAM != 0
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [.., a, b, c] = payload.len().to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// The headers of a call. Each goes into the table that later ones may refer to, so that whoever
/// leaves them out does not understand those.
pub(crate) fn request_head(path: &str, timeout: &str) -> Vec<u8> {
    head(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", timeout),
    ])
}

/// Headers as HPACK writes them.
pub(crate) fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    let fields = fields.iter().map(|(name, value)| {
        [&[0x40], &length(name)[..], name.as_bytes(), &length(value), value.as_bytes()].concat()
    });
    fields.flatten().collect()
}

/// The length of a text as HPACK writes it.
fn length(text: &str) -> Vec<u8> {
    let Some(mut rest) = text.len().checked_sub(127) else {
        return vec![u8::try_from(text.len()).expect("below 127")];
    };
    let mut bytes = vec![127];
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128 + 128).expect("a byte"));
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).expect("below 128"));
    bytes
}
