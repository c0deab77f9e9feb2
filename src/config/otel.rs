//! OpenTelemetry's standard environment variables, as far as they say where traces are sent.

use super::reader::Diagnostics;

/// The variables that are set, with their values. An empty variable counts as unset, as OpenTelemetry
/// specifies.
#[derive(Clone, Debug, Default)]
pub(super) struct Otel(Vec<(String, String)>);

/// The variable for traces comes before the one for all signals.
const ENDPOINT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOL: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
/// The exporter adds these to what it sends.
const HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const DISABLED: &str = "OTEL_SDK_DISABLED";

impl Otel {
    /// Whether `name` is one of these variables.
    pub(super) fn has(name: &str) -> bool {
        let pairs = [ENDPOINT, PROTOCOL, HEADERS];
        pairs.iter().flatten().any(|one| *one == name) || [EXPORTER, DISABLED].contains(&name)
    }

    pub(super) fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let set = |(_, value): &(String, String)| !value.trim().is_empty();
        Self(variables.into_iter().filter(set).collect())
    }

    /// The variable that says where traces are sent, and its value. `None` if none is set, if traces
    /// are disabled, or if they are to be sent by a protocol other than OTLP over gRPC.
    pub(super) fn endpoint(&self, notes: &Diagnostics) -> Option<(&str, &str)> {
        let (name, endpoint) = self.first(&ENDPOINT)?;
        let disabled =
            self.first(&[DISABLED]).is_some_and(|(_, is)| is.eq_ignore_ascii_case("true"));
        let otlp = self.first(&[EXPORTER]).is_none_or(|(_, exporters)| {
            exporters.split(',').any(|exporter| exporter.trim() == "otlp")
        });
        if disabled || !otlp {
            return None;
        }
        match self.first(&PROTOCOL) {
            Some((protocol, is)) if is != "grpc" => {
                notes.warn(format!(
                    "{protocol} is not \"grpc\", the only protocol in which the bridge sends traces, so \
                     {name} is ignored and no traces are made; give \"grpc\" and an address for it, or \
                     traces.endpoint"
                ));
                None
            }
            _ => Some((name, endpoint)),
        }
    }

    /// The variable that has headers for the collector.
    pub(super) fn headers(&self) -> Option<&str> {
        self.first(&HEADERS).map(|(name, _)| name)
    }

    fn first(&self, names: &[&str]) -> Option<(&str, &str)> {
        let value = |name: &&str| self.0.iter().find(|(known, _)| known == name);
        let (name, value) = names.iter().find_map(value)?;
        Some((name, value.trim()))
    }
}
