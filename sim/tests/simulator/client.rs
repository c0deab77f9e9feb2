//! A client that shows every byte: HTTP/1.1 over TLS by hand.

use std::{io, sync::Arc};

use ccgateway_sim::Simulator;
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore,
    client::WantsClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// One connection.
pub(crate) struct Client(TlsStream<TcpStream>);

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// An agent who calls from a new connection each time.
pub(crate) struct Agent<'a> {
    pub(crate) sim: &'a Simulator,
    pub(crate) id: u32,
    pub(crate) guid: String,
}

/// What a person would type; the types are those of the vendor's samples.
pub(crate) const SIGN_IN: &str =
    r#"{"password":"secret","phonenum":"70001","status":"4","agenttype":"4"}"#;

impl Client {
    pub(crate) async fn connect(sim: &Simulator) -> io::Result<Self> {
        let config = trusting(sim).with_no_client_auth();
        Self::connect_with(sim, config).await
    }

    /// Connects with a certificate of the client's own.
    pub(crate) async fn connect_as(
        sim: &Simulator,
        certificate: &rcgen::Certificate,
        key: &rcgen::KeyPair,
    ) -> io::Result<Self> {
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let chain = vec![certificate.der().clone()];
        let config = trusting(sim).with_client_auth_cert(chain, key).unwrap();
        Self::connect_with(sim, config).await
    }

    async fn connect_with(sim: &Simulator, config: ClientConfig) -> io::Result<Self> {
        let stream = TcpStream::connect(sim.addr()).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
        Ok(Self(stream.await?))
    }

    pub(crate) async fn send(&mut self, line: &str, headers: &str, body: &str) -> io::Result<()> {
        let (method, tail) = line.split_once(' ').unwrap();
        let head =
            format!("{method} /agentgateway/resource/{tail} HTTP/1.1\r\nHost: localhost\r\n");
        let length = body.len();
        let request = format!("{head}{headers}Content-Length: {length}\r\n\r\n{body}");
        self.0.write_all(request.as_bytes()).await?;
        self.0.flush().await
    }

    pub(crate) async fn receive(&mut self) -> io::Result<Reply> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap();
        let mut reply = Reply { head, body: vec![] };
        let length = reply.header("Content-Length").unwrap().parse().unwrap();
        reply.body.resize(length, 0);
        self.0.read_exact(&mut reply.body).await?;
        Ok(reply)
    }

    /// Whether the server has closed in order, with nothing more to say.
    pub(crate) async fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 1]).await, Ok(0))
    }
}

impl Reply {
    /// A header by its exact spelling.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.split("\r\n");
        let mut found = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.next()
    }

    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn retcode(&self) -> String {
        self.json()["retcode"].as_str().unwrap().to_owned()
    }

    pub(crate) fn event(&self) -> Option<String> {
        let kind = &self.json()["event"]["eventType"];
        kind.as_str().map(ToOwned::to_owned)
    }

    /// Agents and types of the events of a poll for all agents.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let body = self.json();
        let events = body["event"].as_array().into_iter().flatten();
        events.map(|event| (text(&event["workNo"]), text(&event["eventType"]))).collect()
    }

    pub(crate) fn set_guid(&self) -> Option<&str> {
        self.header("Set-GUID")?.strip_prefix("JSESSIONID=")
    }
}

impl<'a> Agent<'a> {
    /// Signs in as a client does, and fetches the events of that.
    pub(crate) async fn sign_in(sim: &'a Simulator, id: u32) -> Self {
        let reply = call(sim, &format!("PUT onlineagent/{id}"), "", SIGN_IN).await.unwrap();
        assert_eq!(reply.retcode(), "0");
        let guid = reply.set_guid().unwrap().to_owned();
        let agent = Self { sim, id, guid };
        for expected in ["AgentOther_InService", "AgentState_Ready"] {
            assert_eq!(agent.poll().await.event().as_deref(), Some(expected));
        }
        agent
    }

    pub(crate) async fn try_call(&self, method: &str, tail: &str) -> io::Result<Reply> {
        let line = format!("{method} onlineagent/{}/{tail}", self.id);
        call(self.sim, &line, &self.header(), "").await
    }

    pub(crate) async fn call(&self, method: &str, tail: &str) -> Reply {
        self.try_call(method, tail).await.unwrap()
    }

    pub(crate) async fn post(&self, tail: &str) -> String {
        self.call("POST", tail).await.retcode()
    }

    pub(crate) async fn poll(&self) -> Reply {
        let line = format!("GET agentevent/{}", self.id);
        call(self.sim, &line, &self.header(), "").await.unwrap()
    }

    /// Polls for all agents with this one's Guid.
    pub(crate) async fn poll_all(&self) -> Reply {
        call(self.sim, "GET agentevent/allagentevent?time=1", &self.header(), "").await.unwrap()
    }

    pub(crate) fn header(&self) -> String {
        format!("Guid: {}\r\n", self.guid)
    }
}

fn trusting(sim: &Simulator) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_slice(sim.certificate_pem().as_bytes()).unwrap();
    roots.add(trusted).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

/// One request on a connection of its own.
pub(crate) async fn call(
    sim: &Simulator,
    line: &str,
    headers: &str,
    body: &str,
) -> io::Result<Reply> {
    let mut client = Client::connect(sim).await?;
    client.send(line, headers, body).await?;
    client.receive().await
}
