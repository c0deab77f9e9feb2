//! A server that greets like a Redis and then answers everything with the same bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

pub(crate) struct Fake {
    pub(crate) port: u16,
    connections: Arc<AtomicUsize>,
}

impl Fake {
    /// Answers everything but the greeting with this.
    pub(crate) async fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (connections.clone(), bytes.into());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (count, answer) = (count.clone(), answer.clone());
                tokio::spawn(async move { serve(stream, &answer, &count).await });
            }
        });
        Self { port, connections }
    }

    /// Connections that have asked for something.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve(stream: TcpStream, answer: &[u8], count: &AtomicUsize) -> Option<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut is_counted = false;
    loop {
        let command = command(&mut reader).await?;
        // What has to do with subscriptions is another connection, which no request goes through.
        let reply = match &*command {
            "CLIENT" => b"+OK\r\n",
            "SUBSCRIBE" => std::future::pending().await,
            _ => {
                if !std::mem::replace(&mut is_counted, true) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                answer
            }
        };
        writer.write_all(reply).await.ok()?;
    }
}

/// The name of the next command.
async fn command(reader: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Option<String> {
    let mut name = None;
    for _ in 0..number(reader).await? {
        let length = number(reader).await?;
        let mut part = vec![0; length + 2];
        reader.read_exact(&mut part).await.ok()?;
        part.truncate(length);
        name.get_or_insert(part);
    }
    String::from_utf8(name?).ok()
}

async fn number(reader: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim().parse().ok()
}
