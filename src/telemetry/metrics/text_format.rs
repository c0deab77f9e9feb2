//! The two text formats of `/metrics`, and which of them a client asks for.

use std::fmt::Write as _;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// The text format of Prometheus, 0.0.4, for clients that ask for it.
    Prometheus,
}

/// How much a client wants a format, and how exactly it names it.
type Preference = (f32, Exactness);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Exactness {
    Unnamed,
    Anything,
    Kind,
    Itself,
}

impl Format {
    /// The format that the values of a client's `Accept` headers ask for. `OpenMetrics` if they do not
    /// matter, as where there are none.
    pub fn accepted(accept: &[&str]) -> Self {
        let preference = |kind, name| preference(accept, kind, name);
        let open_metrics = preference("application", "openmetrics-text");
        let prometheus = preference("text", "plain");
        if prometheus > open_metrics { Self::Prometheus } else { Self::OpenMetrics }
    }

    /// The content type of an answer in this format.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The weight of the range that names this type most exactly (RFC 9110, section 12.5.1). Of several
/// versions the best one counts.
fn preference(accept: &[&str], kind: &str, name: &str) -> Preference {
    let mut best = (0.0, Exactness::Unnamed);
    for range in accept.iter().flat_map(|accept| accept.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let (range_kind, range_name) =
            parts.next().and_then(|range| range.split_once('/')).unwrap_or_default();
        let exactness = match (range_kind, range_name) {
            (k, n) if k.eq_ignore_ascii_case(kind) && n.eq_ignore_ascii_case(name) => {
                Exactness::Itself
            }
            (k, "*") if k.eq_ignore_ascii_case(kind) => Exactness::Kind,
            ("*", "*") => Exactness::Anything,
            _ => continue,
        };
        let weight = weight(parts);
        if exactness > best.1 || exactness == best.1 && weight > best.0 {
            best = (weight, exactness);
        }
    }
    best
}

/// The `q` of a range; 1 if it has none or a malformed one.
fn weight<'a>(mut parameters: impl Iterator<Item = &'a str>) -> f32 {
    let q = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse::<f32>().ok())?
    });
    q.filter(|q| (0.0..=1.0).contains(q)).unwrap_or(1.0)
}

/// Rewrites what `prometheus-client` has written in `OpenMetrics` in the text format of Prometheus.
///
/// There a counter's family has the name of its sample, which ends in `_total`. There are no infos, which
/// are gauges then, no units and no end mark.
pub(super) fn prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = "";
    for line in open_metrics.lines() {
        if let Some(this) = line.strip_prefix("# HELP ") {
            help = this.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|family| family.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                _ => ("", kind),
            };
            // Into memory, so it does not fail.
            let _written =
                writeln!(text, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(accept: &str) -> Format {
        Format::accepted(&[accept])
    }

    #[test]
    fn each_scraper_gets_what_it_asks_for() {
        for (client, accept) in [
            ("VictoriaMetrics", "text/plain;version=0.0.4;q=1,*/*;q=0.1"),
            (
                "Telegraf",
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                 encoding=delimited;q=0.7,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
            ),
            ("Datadog's older check", "text/plain"),
            ("text and anything", "text/plain, */*"),
            ("any text", "text/*"),
            ("in capitals", "Text/Plain; Q=0.9, */*;q=0.8"),
            ("all but the other", "*/*, application/openmetrics-text;q=0"),
        ] {
            assert_eq!(accepted(accept), Format::Prometheus, "{client}: {accept}");
        }
        for (client, accept) in [
            (
                "Prometheus 2",
                "application/openmetrics-text;version=1.0.0;q=0.5,\
                 application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,\
                 */*;q=0.2",
            ),
            (
                "Prometheus 3",
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                 application/openmetrics-text;version=0.0.1;q=0.5,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,\
                 */*;q=0.2",
            ),
            (
                "Datadog",
                "application/openmetrics-text;version=1.0.0,\
                 application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,\
                 */*;q=0.1",
            ),
            ("curl", "*/*"),
            ("a browser", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            ("both alike", "text/plain, application/openmetrics-text"),
            ("nonsense", ";;,,q=1,/"),
            ("nothing", ""),
        ] {
            assert_eq!(accepted(accept), Format::OpenMetrics, "{client}: {accept}");
        }
        assert_eq!(Format::accepted(&[]), Format::OpenMetrics);
        let several = ["application/openmetrics-text;q=0.1", "text/plain;q=0.2"];
        assert_eq!(Format::accepted(&several), Format::Prometheus, "several headers");
    }

    #[test]
    fn every_kind_of_metric_is_rewritten() {
        let open_metrics = "\
# HELP calls Calls that ended.
# TYPE calls counter
calls_total{code=\"# EOF\"} 3
# HELP build The program.
# TYPE build info
build_info{version=\"1\"} 1
# HELP took_seconds Times.
# TYPE took_seconds histogram
# UNIT took_seconds seconds
took_seconds_sum 0.5
took_seconds_count 1
took_seconds_bucket{le=\"+Inf\"} 1
# HELP open Open calls.
# TYPE open gauge
open 2
# HELP other Of another kind.
# TYPE other unknown
other 1
# EOF
";
        let expected = "\
# HELP calls_total Calls that ended.
# TYPE calls_total counter
calls_total{code=\"# EOF\"} 3
# HELP build_info The program.
# TYPE build_info gauge
build_info{version=\"1\"} 1
# HELP took_seconds Times.
# TYPE took_seconds histogram
took_seconds_sum 0.5
took_seconds_count 1
took_seconds_bucket{le=\"+Inf\"} 1
# HELP open Open calls.
# TYPE open gauge
open 2
# HELP other Of another kind.
# TYPE other untyped
other 1
";
        assert_eq!(prometheus(open_metrics), expected);
    }
}
