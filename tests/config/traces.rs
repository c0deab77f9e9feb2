//! `[traces]`.

use std::time::Duration;

use ccgateway_bridge::config::{self, Sources, Trust};

use crate::support::{Folder, TENANT, load};

const ENDPOINT: &str = "[traces]\nendpoint = \"http://collector:4317\"\n";

#[test]
fn without_a_section_there_are_no_traces() {
    assert!(load(TENANT).traces.is_none());
}

#[test]
fn an_endpoint_is_enough() {
    let traces = load(&format!("{TENANT}{ENDPOINT}")).traces.expect("traces");
    assert_eq!(traces.collector.endpoint, "http://collector:4317");
    assert!((traces.collector.sample - 0.01).abs() < f64::EPSILON);
    assert!(
        traces.collector.follow_callers
            && traces.collector.to_gateway
            && !traces.collector.tracestate_to_gateway
            && traces.collector.headers.is_empty()
    );
    assert_eq!(traces.collector.queue.get(), 4096);
    assert_eq!(
        (traces.collector.interval, traces.collector.timeout),
        (Duration::from_secs(5), Duration::from_secs(10))
    );
    assert_eq!(traces.tls.trust, Trust::SystemRoots);
}

#[test]
fn ratios_are_read_in_every_form() {
    for (text, ratio) in [("0", 0.0), ("1", 1.0), ("0.25", 0.25), ("1e-3", 0.001)] {
        let traces = load(&format!("{TENANT}{ENDPOINT}sample = {text}\n")).traces.expect("traces");
        assert!((traces.collector.sample - ratio).abs() < f64::EPSILON, "{text}");
    }
    let folder = Folder::new();
    let file = folder.write("bridge.toml", format!("{TENANT}{ENDPOINT}"));
    let variables = Sources::from_environment([("CCGW__TRACES__SAMPLE", "0.5")]);
    let config = config::load(&variables.with_file(file)).expect("good");
    assert!((config.traces.expect("traces").collector.sample - 0.5).abs() < f64::EPSILON);
}

#[test]
fn mistakes_are_named_and_no_secret_is_shown() {
    let folder = Folder::new();
    folder.write("bad", "authorization: Bearer good\nc4n4ry without a colon\n");
    folder.write("empty", "\n \n");
    for (lines, expected) in [
        ("sample = 0.5", "bridge.toml  traces.endpoint: is missing"),
        (
            "endpoint = \"collector:4317\"",
            "is not an address of a collector; give http://<host>:<port>",
        ),
        ("endpoint = \"http://collector/v1/traces\"", "is not an address of a collector"),
        ("endpoint = \"http://c4n4ry@collector\"", "has an address with a user name or password"),
        (
            "endpoint = \"http://c\"\nsample = 1.5",
            "traces.sample: 1.5 is out of range; give a number",
        ),
        ("endpoint = \"http://c\"\nsample = 2", "traces.sample: 2 is out of range"),
        ("endpoint = \"http://c\"\nsample = nan", "traces.sample: NaN is out of range"),
        ("endpoint = \"http://c\"\nsample = \"1%\"", "traces.sample: is text, not a number"),
        (
            "endpoint = \"http://c\"\nto_gateway = false\ntracestate_to_gateway = true",
            "traces.tracestate_to_gateway: has no effect without to_gateway",
        ),
        ("endpoint = \"http://c\"\nheaders_file = \"none\"", "traces.headers_file: cannot read"),
        ("endpoint = \"http://c\"\nheaders_file = \"bad\"", "whose line 2 is not a header"),
        ("endpoint = \"http://c\"\nheaders_file = \"empty\"", "names a file without headers"),
        ("endpoint = \"http://c\"\ntls.ca_file = \"none\"", "traces.tls.ca_file: cannot read"),
    ] {
        let mistakes = folder.mistakes(format!("{TENANT}[traces]\n{lines}\n"));
        assert!(mistakes.iter().any(|m| m.contains(expected)), "{expected}: {mistakes:#?}");
        assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
        assert!(!mistakes[0].contains("c4n4ry"), "{mistakes:#?}");
    }
}

#[test]
fn headers_are_not_shown() {
    let folder = Folder::new();
    folder.write("headers", "Authorization: Bearer c4n4ry\r\nx-a: b\n");
    let text = format!("{TENANT}{ENDPOINT}headers_file = \"headers\"\n");
    let config = config::load(&folder.sources(text)).expect("good");
    assert!(!format!("{config:?}").contains("c4n4ry"));
    let headers = &config.traces.as_ref().expect("traces").collector.headers;
    assert_eq!(headers.len(), 2);
    assert_eq!(headers["authorization"], "Bearer c4n4ry");
}

#[test]
fn headers_that_go_over_the_network_in_plain_text_are_warned_of() {
    let folder = Folder::new();
    let file = folder.write("headers", "Authorization: Bearer c4n4ry\n");
    #[cfg(unix)]
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let loopback = "listeners.default.address = \"127.0.0.1:1\"\n";
    for (endpoint, headers, is_warned_of) in [
        ("http://collector:4317", "headers_file = \"headers\"", true),
        ("http://collector:4317", "", false),
        ("https://collector:4317", "headers_file = \"headers\"", false),
        ("http://127.0.0.1:4317", "headers_file = \"headers\"", false),
        ("http://[::1]:4317", "headers_file = \"headers\"", false),
        ("http://localhost:4317", "headers_file = \"headers\"", false),
    ] {
        let text = format!("{loopback}{TENANT}[traces]\nendpoint = \"{endpoint}\"\n{headers}\n");
        let warnings = config::load(&folder.sources(text)).expect("good").warnings();
        let found = warnings.iter().filter(|told| told.contains("go over the network")).count();
        assert_eq!(found, usize::from(is_warned_of), "{endpoint} {headers}: {warnings:?}");
        assert!(!warnings.concat().contains("c4n4ry"));
    }
}

#[test]
fn opentelemetrys_variables_say_where_traces_go_unless_the_configuration_does() {
    const ALL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317");
    const TRACES: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces:4317");
    const OURS: (&str, &str) = ("CCGW__TRACES__ENDPOINT", "http://ours:4317");
    const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
    const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
    const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
    const TRACES_HEADERS: &str = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
    for (file, variables, expected, warnings) in [
        ("", &[ALL][..], Some("http://all:4317/"), 0),
        ("[traces]\nsample = 1\n", &[ALL], Some("http://all:4317/"), 0),
        ("", &[ALL, TRACES], Some("https://traces:4317/"), 0),
        ("", &[ALL, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", " ")], Some("http://all:4317/"), 0),
        ("", &[ALL, TRACES, OURS], Some("http://ours:4317/"), 0),
        (ENDPOINT, &[ALL, TRACES], Some("http://collector:4317/"), 0),
        ("", &[ALL, ("OTEL_SDK_DISABLED", "True")], None, 0),
        ("", &[ALL, ("OTEL_SDK_DISABLED", "false")], Some("http://all:4317/"), 0),
        ("", &[ALL, ("OTEL_TRACES_EXPORTER", "none")], None, 0),
        ("", &[ALL, ("OTEL_TRACES_EXPORTER", "console, otlp")], Some("http://all:4317/"), 0),
        ("", &[ALL, (PROTOCOL, "http/protobuf")], None, 1),
        (ENDPOINT, &[ALL, (PROTOCOL, "http/protobuf")], Some("http://collector:4317/"), 0),
        (
            "",
            &[ALL, (PROTOCOL, "http/protobuf"), (TRACES_PROTOCOL, "grpc")],
            Some("http://all:4317/"),
            0,
        ),
        ("", &[(PROTOCOL, "http/protobuf")], None, 0),
        // A token in plain text.
        ("", &[ALL, (HEADERS, "authorization=c4n4ry")], Some("http://all:4317/"), 1),
        ("", &[TRACES, (HEADERS, "authorization=c4n4ry")], Some("https://traces:4317/"), 0),
        (ENDPOINT, &[(TRACES_HEADERS, "a=c4n4ry")], Some("http://collector:4317/"), 1),
        ("", &[(HEADERS, "a=c4n4ry")], None, 0),
    ] {
        let folder = Folder::new();
        let loopback = "listeners.default.address = \"127.0.0.1:1\"\n";
        let path = folder.write("bridge.toml", format!("{TENANT}{loopback}{file}"));
        let sources = Sources::from_environment(variables.iter().copied()).with_file(path);
        let config = config::load(&sources).unwrap_or_else(|errors| panic!("{errors}"));
        let endpoint = config.traces.as_ref().map(|traces| traces.collector.endpoint.to_string());
        assert_eq!(endpoint.as_deref(), expected, "{file} {variables:?}");
        assert_eq!(config.warnings().len(), warnings, "{:#?}", config.warnings());
        assert!(!config.warnings().concat().contains("c4n4ry"));
    }
}

#[test]
fn a_wrong_address_in_an_opentelemetry_variable_names_the_variable() {
    for (endpoint, expected) in [
        (
            "collector:4317",
            "environment OTEL_EXPORTER_OTLP_ENDPOINT  traces.endpoint: \"collector:4317\" is not an \
             address of a collector; ",
        ),
        (
            "http://u:c4n4ry@collector",
            "environment OTEL_EXPORTER_OTLP_ENDPOINT  traces.endpoint: has an address with a user",
        ),
    ] {
        let folder = Folder::new();
        let path = folder.write("bridge.toml", TENANT);
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)];
        let mistakes = folder.mistakes_of(&Sources::from_environment(variables).with_file(path));
        assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
        assert!(mistakes[0].starts_with(expected), "{mistakes:#?}");
        assert!(!mistakes[0].contains("c4n4ry"), "{mistakes:#?}");
    }
}
