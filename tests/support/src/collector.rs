//! A collector of traces that takes OTLP over gRPC, and can be made to fail.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::Span,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status};

use crate::hides_secrets;

/// What the collector does with an export.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Conduct {
    /// It accepts the export.
    Takes,
    /// It answers PERMISSION_DENIED.
    Refuses,
    /// It never answers.
    Hangs,
}

/// An export as it came.
#[derive(Debug)]
pub struct Export {
    /// The headers of its request.
    pub headers: HeaderMap,
    /// The exported spans.
    pub request: ExportTraceServiceRequest,
}

/// A collector of traces.
#[derive(Debug)]
pub struct Collector {
    /// The address that it listens on.
    pub addr: SocketAddr,
    /// Its certificate in PEM, if it has TLS.
    pub certificate: Option<String>,
    /// How many exports have arrived.
    pub asked: Arc<AtomicUsize>,
    exports: UnboundedReceiver<Export>,
}

struct TraceServer {
    conduct: Conduct,
    asked: Arc<AtomicUsize>,
    exports: UnboundedSender<Export>,
}

impl Collector {
    /// A collector without TLS.
    pub async fn start(conduct: Conduct) -> Self {
        Self::listen(conduct, None, None).await
    }

    /// A collector with TLS that accepts every export.
    pub async fn secure() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let mut tls = ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a certificate and its key");
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Self::listen(Conduct::Takes, Some(TlsAcceptor::from(Arc::new(tls))), Some(cert.pem())).await
    }

    async fn listen(
        conduct: Conduct,
        tls: Option<TlsAcceptor>,
        certificate: Option<String>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (sender, exports) = unbounded_channel();
        let asked = Arc::new(AtomicUsize::default());
        let server = TraceServer { conduct, asked: asked.clone(), exports: sender };
        let service = TraceServiceServer::new(server);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, tls.clone(), service.clone()));
            }
        });
        Self { addr, certificate, asked, exports }
    }

    /// The next export.
    pub async fn export(&mut self) -> Export {
        let export = timeout(Duration::from_secs(60), self.exports.recv()).await;
        searched(export.expect("an export within a minute").expect("the collector runs"))
    }

    /// The next export, if one has arrived already.
    pub fn arrived(&mut self) -> Option<Export> {
        self.exports.try_recv().ok().map(searched)
    }

    /// Waits for `count` spans. Returns them in the order in which they began.
    pub async fn spans(&mut self, count: usize) -> Vec<Span> {
        let mut spans = Vec::new();
        while spans.len() < count {
            let resources = self.export().await.request.resource_spans;
            let scopes = resources.into_iter().flat_map(|resource| resource.scope_spans);
            spans.extend(scopes.flat_map(|scope| scope.spans));
        }
        spans.sort_by_key(|span| (span.start_time_unix_nano, u64::MAX - span.end_time_unix_nano));
        spans
    }
}

fn searched(export: Export) -> Export {
    hides_secrets("what is exported", &format!("{:?}", export.request));
    export
}

async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    service: TraceServiceServer<TraceServer>,
) {
    let service = TowerToHyperService::new(service);
    let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // A client that disconnects is no failure here.
    let _ended = match tls {
        None => http2.serve_connection(TokioIo::new(stream), service).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => http2.serve_connection(TokioIo::new(stream), service).await,
            Err(_untrusted) => Ok(()),
        },
    };
}

#[tonic::async_trait]
impl TraceService for TraceServer {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.conduct {
            Conduct::Hangs => return pending().await,
            Conduct::Refuses => return Err(Status::permission_denied("not yours")),
            Conduct::Takes => {}
        }
        let (metadata, _, request) = request.into_parts();
        // An error means that the test has ended.
        let _unheard = self.exports.send(Export { headers: metadata.into_headers(), request });
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The value of a span's attribute as text; empty if there is none.
pub fn said(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.clone()) {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => text,
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => number.to_string(),
        other => other.map(|value| format!("{value:?}")).unwrap_or_default(),
    }
}
