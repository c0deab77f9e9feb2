//! Metrics of gRPC calls.
use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{
    Code, Method,
    family::Family,
    late::{ByCode, Late, WithCode},
    times::Histogram,
};

/// Metrics of gRPC calls, with the names and labels that dashboards for gRPC expect.
#[derive(Debug)]
pub struct Calls {
    /// By number.
    methods: Vec<Arc<CallMetrics>>,
    unknown: Arc<CallMetrics>,
}

/// The metrics of one method. They are looked up once, so that a call needs no lookup by labels.
#[derive(Debug)]
pub struct CallMetrics {
    started: Counter,
    open: Gauge,
    handled: ByCode<CodeLabels>,
    seconds: Late<MethodLabels>,
    streams: bool,
}

// The field names are the names of the labels.
#[expect(clippy::struct_field_names)]
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
}

#[expect(clippy::struct_field_names)]
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
    grpc_code: &'static str,
}

impl WithCode for CodeLabels {
    fn with_code(&self, grpc_code: &'static str) -> Self {
        Self { grpc_code, ..self.clone() }
    }
}

impl Calls {
    pub(super) fn new(methods: &[Method], codes: &'static [Code], registry: &mut Registry) -> Self {
        let started = Family::<MethodLabels, Counter>::default();
        let open = Family::<MethodLabels, Gauge>::default();
        let handled = Family::<CodeLabels, Counter>::default();
        let took = Family::<MethodLabels, Histogram>::default();
        registry.register("grpc_server_started", "Calls begun", started.clone());
        registry.register("grpc_server_handled", "Calls ended, by code", handled.clone());
        registry.register("ccgw_calls_open", "Calls and streams that are open", open.clone());
        let help = "From the arrival of a call to its answer";
        registry.register_with_unit("grpc_server_handling", help, Unit::Seconds, took.clone());

        let method = |method: &Method| {
            let Method { service, name, streams } = *method;
            let labels = MethodLabels {
                grpc_type: if streams { "server_stream" } else { "unary" },
                grpc_service: service,
                grpc_method: name,
            };
            let with_code = CodeLabels {
                grpc_type: labels.grpc_type,
                grpc_service: service,
                grpc_method: name,
                grpc_code: "",
            };
            let metrics = CallMetrics {
                started: started.get_or_create(&labels),
                open: open.get_or_create(&labels),
                handled: ByCode::new(&handled, with_code, codes),
                seconds: Late::new(&took, labels.clone()),
                streams,
            };
            Arc::new(metrics)
        };
        let unknown = Method { service: "unknown", name: "unknown", streams: false };
        Self { methods: methods.iter().map(method).collect(), unknown: method(&unknown) }
    }

    /// The metrics of the method with this number; those of `unknown` for calls of any other, and of methods that
    /// do not exist.
    pub fn of(&self, number: Option<usize>) -> Arc<CallMetrics> {
        let known = number.and_then(|number| self.methods.get(number));
        known.unwrap_or(&self.unknown).clone()
    }
}

impl CallMetrics {
    /// Whether the method's answer is a stream.
    pub fn streams(&self) -> bool {
        self.streams
    }

    /// Counts a call that has come.
    pub fn begin(&self) {
        self.started.inc();
        self.open.inc();
    }

    /// Counts a call that was answered with `code`, `took` after it came.
    pub fn end(&self, code: i32, took: Duration) {
        self.open.dec();
        self.handled.inc(code);
        self.seconds.observe(took);
    }
}
