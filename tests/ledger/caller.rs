//! The callers: a client in the test itself, or gRPC's own library in Python.

use std::time::Duration;

use ccgateway_bridge::client::{self, Channel};
use http::{Uri, uri::PathAndQuery};
use prost::Message;
use serde_json::Value;
use tonic::{Code, Request, Status, client::Grpc};
use tonic_prost::ProstCodec;

use crate::grpcio::Grpcio;

pub(crate) enum Caller {
    /// Repeats calls as gRPC would, by the service config that the project ships.
    Own(Box<Own>),
    /// Repeats all calls, by a service config that is bolder.
    Grpcio(Box<Grpcio>),
}

pub(crate) struct Own {
    channel: Channel,
    origin: Uri,
    /// Methods with a policy.
    retried: Vec<String>,
}

/// One call, whatever is in it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Such as `/ccgateway.agent.v1.AgentState/SetBusy`.
    pub(crate) path: &'static str,
    pub(crate) message: Vec<u8>,
    pub(crate) trace: u128,
}

impl Caller {
    pub(crate) fn own(addr: std::net::SocketAddr) -> Self {
        let origin = format!("http://{addr}").parse().expect("an origin");
        Self::Own(Box::new(Own { channel: client::channel(), origin, retried: retried() }))
    }

    /// Whether a call that changes an agent may be more than one attempt.
    pub(crate) fn repeats_changes(&self) -> bool {
        matches!(self, Self::Grpcio(_))
    }

    /// Makes a call, and repeats it where gRPC would.
    pub(crate) async fn ask<A: Message + Default + 'static>(
        &self,
        asked: &Asked,
    ) -> Result<A, Status> {
        match self {
            Self::Own(own) => own.ask(asked).await,
            Self::Grpcio(grpcio) => {
                let answer = grpcio.ask(asked).await?;
                Ok(A::decode(&*answer).expect("a message"))
            }
        }
    }
}

impl Own {
    /// Makes a call up to three times.
    async fn ask<A: Message + Default + 'static>(&self, asked: &Asked) -> Result<A, Status> {
        let mut answer = self.once(asked).await;
        for _ in 0..2 {
            let Err(status) = &answer else { break };
            let pushback = status.metadata().get("grpc-retry-pushback-ms");
            let pause = pushback.and_then(|pushback| pushback.to_str().ok()?.parse::<u64>().ok());
            let may = status.code() == Code::Unavailable
                && self.retried.iter().any(|method| asked.path.ends_with(method));
            let Some(pause) = pause.filter(|_| may) else { break };
            // In the test's own time: what counts is that it is repeated.
            tokio::time::sleep(Duration::from_millis(pause.min(5))).await;
            answer = self.once(asked).await;
        }
        answer
    }

    async fn once<A: Message + Default + 'static>(&self, asked: &Asked) -> Result<A, Status> {
        let mut request = Request::new(Encoded(asked.message.clone()));
        let traceparent = asked.traceparent().parse().expect("ascii");
        request.metadata_mut().insert("traceparent", traceparent);
        // Shorter than the bridge waits for the gateway, for some of the calls.
        let millis = if asked.trace.is_multiple_of(3) { 300 } else { 5_000 };
        request.set_timeout(Duration::from_millis(millis));
        let mut grpc = Grpc::with_origin(self.channel.clone(), self.origin.clone());
        grpc.ready().await.expect("a client is always ready");
        let path = PathAndQuery::from_static(asked.path);
        let codec = ProstCodec::<Encoded, A>::default();
        grpc.unary(request, path, codec).await.map(tonic::Response::into_inner)
    }
}

impl Asked {
    pub(crate) fn traceparent(&self) -> String {
        format!("00-{:032x}-b7ad6b7169203331-00", self.trace)
    }
}

/// The methods that the shipped service config repeats, each with a slash before it.
fn retried() -> Vec<String> {
    let config: Value =
        serde_json::from_str(include_str!("../../docs/service-config.json")).expect("JSON");
    let configs = config["methodConfig"].as_array().expect("method configs");
    let retried = configs.iter().filter(|config| config.get("retryPolicy").is_some());
    let names = retried.flat_map(|config| config["name"].as_array().expect("names"));
    names.map(|name| format!("/{}", name["method"].as_str().expect("a method"))).collect()
}

/// A message that is encoded already.
#[derive(Debug, Default)]
struct Encoded(Vec<u8>);

impl Message for Encoded {
    fn encode_raw(&self, buffer: &mut impl bytes::BufMut) {
        buffer.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: prost::encoding::WireType,
        buffer: &mut impl bytes::Buf,
        context: prost::encoding::DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        prost::encoding::skip_field(wire_type, tag, buffer, context)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}
