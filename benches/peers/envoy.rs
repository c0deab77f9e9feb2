//! Envoy with its gRPC-to-REST transcoder, which does a part of the bridge's work. It has one worker, as the bridge
//! has, no statistics and no access log.

use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    Failure,
    process::Running,
    site::{GUID, free_port, serving},
};

const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters";

/// Starts it by this command in front of the gateway at this port. `descriptors` is the compiled form of envoy.proto.
/// Returns its port too.
pub(crate) async fn start(
    mut command: Command,
    descriptors: &OsStr,
    folder: &Path,
    gateway: u16,
) -> Result<(Running, u16), Failure> {
    let port = free_port()?;
    let descriptors = descriptors.to_str().ok_or("a path that is not UTF-8")?;
    let certificate = folder.join("cert.pem").display().to_string();
    let config = json!({
        "static_resources": {
            "listeners": [listener(port, descriptors)],
            "clusters": [cluster(gateway, &certificate)],
        },
        "stats_config": { "stats_matcher": { "reject_all": true } },
    });
    let [file, log] = ["envoy.json", "envoy.log"].map(|name| folder.join(name));
    fs::write(&file, config.to_string())?;
    command.arg("--config-path").arg(file).args(["--concurrency", "1", "--disable-hot-restart"]);
    command.args(["--log-level", "error", "--log-path"]).arg(&log);
    let mut running = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
    let started = serving(&mut running, port).await;
    if started.is_err() {
        return Err(format!("Envoy: {}", fs::read_to_string(log).unwrap_or_default()).into());
    }
    Ok((running, port))
}

fn listener(port: u16, descriptors: &str) -> Value {
    let header = |key: &str, value: &str| {
        json!({
            "header": { "key": key, "value": value },
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        })
    };
    let headers = [
        // Without it Envoy sends an empty body in chunks, which is more work for both.
        header("content-length", "0"),
        header("content-type", "application/json; charset=UTF-8"),
        header("guid", GUID),
    ];
    let route = json!({
        "name": "all",
        "domains": ["*"],
        "request_headers_to_add": headers,
        "request_headers_to_remove": ["te", "x-forwarded-proto", "x-request-id"],
        "routes": [{
            "match": { "prefix": "/" },
            "route": { "cluster": "gateway", "timeout": "10s", "host_rewrite_literal": "localhost" },
        }],
    });
    let transcoder = json!({
        "name": "transcoder",
        "typed_config": {
            "@type": format!("{FILTERS}.http.grpc_json_reverse_transcoder.v3.GrpcJsonReverseTranscoder"),
            "descriptor_path": descriptors,
            // Otherwise a field that has its default counts as missing.
            "request_json_print_options": { "always_print_primitive_fields": true },
        },
    });
    let router = json!({
        "name": "router",
        "typed_config": {
            "@type": format!("{FILTERS}.http.router.v3.Router"),
            "suppress_envoy_headers": true,
        },
    });
    let manager = json!({
        "@type": format!("{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "bench",
        "codec_type": "HTTP2",
        "generate_request_id": false,
        "route_config": { "name": "all", "virtual_hosts": [route] },
        "http_filters": [transcoder, router],
    });
    json!({
        "name": "bench",
        "address": address(port),
        "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }],
    })
}

fn cluster(gateway: u16, certificate: &str) -> Value {
    let most = json!({
        "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000,
    });
    let names = json!([{ "san_type": "DNS", "matcher": { "exact": "localhost" } }]);
    let tls = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "localhost",
        "common_tls_context": {
            "tls_params": { "tls_maximum_protocol_version": "TLSv1_3" },
            "validation_context": {
                "trusted_ca": { "filename": certificate },
                "match_typed_subject_alt_names": names,
            },
        },
    });
    let endpoint = json!({ "endpoint": { "address": address(gateway) } });
    json!({
        "name": "gateway",
        "type": "STATIC",
        "connect_timeout": "2s",
        "circuit_breakers": { "thresholds": [most] },
        "load_assignment": {
            "cluster_name": "gateway",
            "endpoints": [{ "lb_endpoints": [endpoint] }],
        },
        "transport_socket": { "name": "envoy.transport_sockets.tls", "typed_config": tls },
    })
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}
