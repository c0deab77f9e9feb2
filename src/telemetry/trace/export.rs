//! Exports spans to the collector. The queue is bounded, losses are counted, and no call waits.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry::{Context, Key, KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{
    SpanExporter as OtlpExporter, WithExportConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData,
        SpanExporter, SpanProcessor,
    },
};
use rustls::ClientConfig;
use tokio::{task::spawn_blocking, time::timeout};
use tonic::{
    Request,
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};
use tracing::{info, warn};

use super::{Active, Collector, Tracer, TracerError};
use crate::{resolver::Resolver, telemetry::metrics::SpanMetrics, version};

/// Counts spans that have ended and are not yet exported or dropped.
#[derive(Debug)]
struct Waiting {
    spans: AtomicUsize,
    limit: usize,
    /// Whether the last export failed.
    failing: AtomicBool,
    metrics: SpanMetrics,
}

/// Drops spans beyond the limit and counts them. The processor would drop them without counting.
#[derive(Debug)]
struct Bounded {
    waiting: Arc<Waiting>,
    inner: BatchSpanProcessor,
}

/// Counts the spans of each export by its result. Logs the first failure of several.
#[derive(Debug)]
struct Counted<E> {
    waiting: Arc<Waiting>,
    inner: E,
}

const SERVICE: &str = "ccgateway-bridge";

impl Tracer {
    /// Sends traces to a collector. Opens no connection yet. `tls` is used if the scheme of the
    /// endpoint is `https`. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`TracerError`] if an `OTEL_` variable of the environment is wrong.
    pub fn new(
        collector: &Collector,
        tls: ClientConfig,
        metrics: SpanMetrics,
    ) -> Result<Self, TracerError> {
        let exporter = OtlpExporter::builder()
            .with_tonic()
            .with_channel(channel(collector, tls))
            .with_interceptor(own_headers(collector.headers.clone()))
            .with_timeout(collector.timeout)
            .build()
            .map_err(|error| TracerError(error.to_string()))?;
        let limit = collector.queue.get();
        let (spans, failing) = (AtomicUsize::default(), AtomicBool::default());
        let waiting = Arc::new(Waiting { spans, limit, failing, metrics });
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(limit)
            .with_scheduled_delay(collector.interval)
            .build();
        let counted = Counted { waiting: waiting.clone(), inner: exporter };
        let inner = BatchSpanProcessor::builder(counted).with_batch_config(batches).build();
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler(collector))
            .with_resource(resource())
            .with_span_processor(Bounded { waiting, inner })
            .build();
        Ok(Self(Some(Arc::new(Active {
            tracer: provider.tracer(SERVICE),
            provider,
            to_gateway: collector.to_gateway,
            tracestate_to_gateway: collector.tracestate_to_gateway,
        }))))
    }

    /// One that records every call and gives the spans to a test.
    #[cfg(test)]
    pub(crate) fn recording(spans: impl SpanProcessor + 'static) -> Self {
        let provider = SdkTracerProvider::builder().with_span_processor(spans).build();
        let (tracer, to_gateway) = (provider.tracer(SERVICE), false);
        let active = Active { tracer, provider, to_gateway, tracestate_to_gateway: false };
        Self(Some(Arc::new(active)))
    }

    /// Whether spans are exported.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Exports the waiting spans, for `limit` at most. Spans that end later are lost.
    pub async fn shut_down(&self, limit: Duration) {
        let Some(active) = self.0.clone() else { return };
        let exporting = spawn_blocking(move || active.provider.shutdown_with_timeout(limit));
        // It keeps to the limit once it has a thread, but that may not come.
        let error = match timeout(limit, exporting).await {
            Ok(Ok(Err(error))) => error.to_string(),
            Err(late) => late.to_string(),
            Ok(_) => return,
        };
        warn!(%error, "the last traces were not exported");
    }
}

impl Drop for Active {
    /// In a thread of its own, since the provider waits for the collector when it is dropped. Here
    /// that could block a thread of the runtime.
    fn drop(&mut self) {
        let provider = self.provider.clone();
        std::thread::spawn(move || provider.shutdown_with_timeout(Duration::ZERO));
    }
}

pub(super) fn channel(collector: &Collector, tls: ClientConfig) -> Channel {
    let mut tcp = HttpConnector::new_with_resolver(Resolver::default());
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http2()
        .wrap_connector(tcp);
    let endpoint = Endpoint::from(collector.endpoint.clone())
        .connect_timeout(collector.timeout)
        .timeout(collector.timeout);
    endpoint.connect_with_connector_lazy(connector)
}

/// Adds the configured headers to an export. The headers of `OTEL_EXPORTER_OTLP_HEADERS` are
/// already there, and are replaced by configured ones of the same name.
pub(super) fn own_headers(
    headers: HeaderMap,
) -> impl FnMut(Request<()>) -> Result<Request<()>, tonic::Status> + Clone {
    move |mut export| {
        let mut all = mem::take(export.metadata_mut()).into_headers();
        all.extend(headers.clone());
        *export.metadata_mut() = MetadataMap::from_headers(all);
        Ok(export)
    }
}

fn sampler(collector: &Collector) -> Sampler {
    let ratio = Sampler::TraceIdRatioBased(collector.sample);
    if collector.follow_callers { Sampler::ParentBased(Box::new(ratio)) } else { ratio }
}

/// The sender of the spans. `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` take precedence.
fn resource() -> Resource {
    let given = Resource::builder().build();
    let own = [
        KeyValue::new("service.name", SERVICE),
        KeyValue::new("service.version", version::NUMBER),
        KeyValue::new("service.instance.id", format!("{:032x}", rand::random::<u128>())),
    ];
    let said = |key: &Key| {
        given.get(key).is_some_and(|value| !value.as_str().starts_with("unknown_service"))
    };
    let missing = own.into_iter().filter(|attribute| !said(&attribute.key)).collect::<Vec<_>>();
    Resource::builder().with_attributes(missing).build()
}

// === impl Bounded ===

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        let Waiting { spans, limit, metrics, .. } = &*self.waiting;
        let more = |waiting| (waiting < *limit).then_some(waiting + 1);
        if spans.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok() {
            self.inner.on_end(span);
        } else {
            metrics.dropped.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

// === impl Counted ===

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        self.waiting.done(spans, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl Waiting {
    fn done(&self, spans: usize, result: &OTelSdkResult) {
        self.spans.fetch_sub(spans, Ordering::Relaxed);
        let counter = if result.is_ok() { &self.metrics.exported } else { &self.metrics.failed };
        counter.inc_by(spans.try_into().unwrap_or(u64::MAX));
        let failed_before = self.failing.swap(result.is_err(), Ordering::Relaxed);
        match result {
            Err(error) if !failed_before => {
                warn!(%error, "traces cannot be exported and are lost until the collector is back");
            }
            Ok(()) if failed_before => info!("traces are exported again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use rustls::{RootCertStore, crypto::aws_lc_rs};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{resolver::without_threads_for_blocking_work, telemetry::trace::ask_collector};

    #[derive(Debug)]
    struct Nothing;

    impl SpanProcessor for Nothing {
        fn on_start(&self, _: &mut Span, _: &Context) {}

        fn on_end(&self, _: SpanData) {}

        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }

        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    #[test]
    fn a_stop_ends_although_all_threads_for_blocking_work_hang() {
        let tracer = Tracer::recording(Nothing);
        without_threads_for_blocking_work(tracer.shut_down(Duration::from_millis(1)));
    }

    /// Trusts nobody.
    fn tls() -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("a version")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth()
    }

    #[test]
    fn a_name_is_looked_up_although_all_threads_for_blocking_work_hang() {
        without_threads_for_blocking_work(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = listener.local_addr().expect("bound").port();
            let collector = Collector {
                endpoint: format!("http://localhost:{port}").parse().expect("a URL"),
                headers: HeaderMap::new(),
                sample: 1.0,
                follow_callers: false,
                to_gateway: false,
                tracestate_to_gateway: false,
                queue: NonZeroUsize::MIN,
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(60),
            };
            tokio::select! {
                connected = listener.accept() => drop(connected.expect("accepted")),
                asked = ask_collector(&collector, tls()) => panic!("{asked:?}"),
            }
        });
    }
}
