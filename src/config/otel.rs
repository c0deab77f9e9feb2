//! OpenTelemetry's own variables, where they say where traces go.

use super::reader::Diagnostics;

/// What they are set to; unset where they are empty, as OpenTelemetry wants it.
#[derive(Clone, Debug, Default)]
pub(super) struct Otel(Vec<(String, String)>);

/// The one for traces goes before the one for all signals.
const ENDPOINT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOL: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const DISABLED: &str = "OTEL_SDK_DISABLED";

impl Otel {
    /// Whether a variable is one of them.
    pub(super) fn has(name: &str) -> bool {
        ENDPOINT.contains(&name) || PROTOCOL.contains(&name) || [EXPORTER, DISABLED].contains(&name)
    }

    pub(super) fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let set = |(_, value): &(String, String)| !value.trim().is_empty();
        Self(variables.into_iter().filter(set).collect())
    }

    /// The variable that says where traces go, and what it says; none where traces are not wanted, or
    /// not in the one way that the bridge has.
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
                    "{protocol} is not \"grpc\", in which alone the bridge sends traces, so that it \
                     makes none in spite of {name}; give \"grpc\" and an address for it, or \
                     traces.endpoint"
                ));
                None
            }
            _ => Some((name, endpoint)),
        }
    }

    fn first(&self, names: &[&str]) -> Option<(&str, &str)> {
        let value = |name: &&str| self.0.iter().find(|(known, _)| known == name);
        let (name, value) = names.iter().find_map(value)?;
        Some((name, value.trim()))
    }
}
