//! The admin port among peers that are slow, many, or in a browser.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ccgateway_test_support::{Program, within};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::support::start;

/// What can be asked for in any case.
const PAGES: [&str; 9] = [
    "/",
    "/status.json",
    "/agent?tenant=acme&agent=1001",
    "/agent.json?tenant=acme&agent=1001",
    "/metrics",
    "/log",
    "/readyz",
    "/readyz?verbose",
    "/healthz",
];

/// Sends `request` as it is, and reads the answer to its end. The status is 0 if there is none.
async fn raw(admin: SocketAddr, request: &str) -> (u16, String) {
    raw_from([127, 0, 0, 1], admin, request).await
}

/// Sends `request` from this address.
async fn raw_from(peer: [u8; 4], admin: SocketAddr, request: &str) -> (u16, String) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((peer, 0).into()).expect("an address of loopback");
    let mut stream = socket.connect(admin).await.expect("connected");
    let mut answer = Vec::new();
    // A connection that has lost its place may be closed before all is sent.
    let _cut = stream.write_all(request.as_bytes()).await;
    let _cut = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_default(), answer)
}

fn get(path: &str, host: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// Probes five times from this address, as a kubelet does, but without its pauses. Returns how many
/// probes failed, one directly after the other, at the worst.
async fn probe(program: &Program, peer: [u8; 4]) -> usize {
    let (mut failed, mut worst) = (0, 0);
    for _ in 0..5 {
        let request = get("/healthz", "127.0.0.1");
        let probed = timeout(Duration::from_secs(5), raw_from(peer, program.admin, &request)).await;
        let is_healthy = probed.is_ok_and(|(status, _)| status == 200);
        failed = if is_healthy { 0 } else { failed + 1 };
        worst = worst.max(failed);
        sleep(Duration::from_millis(20)).await;
    }
    worst
}

/// What a rude peer does on each of its connections until it is closed.
type Rudeness = &'static [u8];

/// Connects again and again, and counts how often.
async fn rude(admin: SocketAddr, says: Rudeness, connected: Arc<AtomicU64>) {
    loop {
        let Ok(mut stream) = TcpStream::connect(admin).await else { continue };
        connected.fetch_add(1, Ordering::Relaxed);
        let _cut = stream.write_all(says).await;
        // Waits until the bridge closes it, and reads nothing but that.
        let _closed = stream.peek(&mut [0]).await;
        let _closed = stream.readable().await;
        drop(stream);
    }
}

#[tokio::test]
async fn probes_are_answered_while_rude_peers_come_back_at_once() {
    let program = start("", &[]).await;
    for (case, says) in [
        ("nothing is sent", &b""[..]),
        ("a part of a head", b"GET /h"),
        ("garbage", b"\0\0\0\0"),
        (
            "many requests at once",
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n\r\n\r\nGET / HTTP",
        ),
        ("metrics that are not read", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ] {
        let (mut peers, connected) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
        for _ in 0..600 {
            peers.spawn(rude(program.admin, says, connected.clone()));
        }
        let all_there = async {
            while connected.load(Ordering::Relaxed) < 600 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        within(case, all_there).await;
        // A node has an address of its own, and never loses a place to those of another one.
        assert_eq!(probe(&program, [127, 0, 0, 2]).await, 0, "{case}");
        // A probe that is slower than the turnover of places may lose its own to a peer that has its
        // address. Kubernetes forgives two in a row.
        let failed = probe(&program, [127, 0, 0, 1]).await;
        assert!(failed < 3, "{case}: {failed} probes in a row");
        peers.shutdown().await;
    }
}

#[tokio::test]
async fn answers_that_nobody_reads_take_little_memory_and_keep_no_scraper_out() {
    const MIB: u64 = 1024 * 1024;
    let tenants = (0..100).map(|number| {
        format!("tenants.t{number}.base_urls = [\"https://gateway{number}.example\"]\n")
    });
    let program = start(&tenants.collect::<String>(), &[]).await;
    let (status, metrics) = raw(program.admin, &get("/metrics", "localhost")).await;
    assert_eq!(status, 200);
    let before = program.peak_memory();
    let mut unread = Vec::new();
    for _ in 0..100 {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let mut stream = socket.connect(program.admin).await.expect("connected");
        stream.write_all(get("/metrics", "localhost").as_bytes()).await.expect("sent");
        unread.push(stream);
        let (status, answer) = raw(program.admin, &get("/metrics", "localhost")).await;
        assert_eq!(status, 200);
        assert!(answer.len() > metrics.len() / 2, "{} bytes", answer.len());
    }
    let taken = program.peak_memory().saturating_sub(before) / MIB;
    println!("100 answers of {} KiB took {taken} MiB", metrics.len() / 1024);
    assert!(taken < 32, "{taken} MiB");
}

/// What the scrapers in use send; `telemetry::metrics` has a table of them.
#[tokio::test]
async fn metrics_come_in_the_format_that_a_scraper_accepts() {
    let program = start("", &[]).await;
    let scrape = |accept: &str| format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{accept}\r\n");
    let (openmetrics, prometheus) =
        ("application/openmetrics-text; version=1.0.0", "text/plain; version=0.0.4");
    for (accept, content_type) in [
        ("", openmetrics),
        ("Accept: */*\r\n", openmetrics),
        ("Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n", openmetrics),
        ("Accept: text/plain;version=0.0.4;q=1,*/*;q=0.1\r\n", prometheus),
    ] {
        let (status, answer) = raw(program.admin, &scrape(accept)).await;
        assert_eq!(status, 200);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("content-type: {content_type}; charset=utf-8")), "{head}");
        let is_open = content_type == openmetrics;
        assert_eq!(body.ends_with("# EOF\n"), is_open, "{accept}");
        assert_eq!(body.contains("# TYPE grpc_server_handled counter\n"), is_open, "{accept}");
        assert_eq!(
            body.contains("# TYPE grpc_server_handled_total counter\n"),
            !is_open,
            "{accept}"
        );
        assert!(body.contains("\ngrpc_server_handled_total{"), "{accept}");
    }
}

/// A scraper drops everything of a pod that has more samples.
#[tokio::test]
async fn a_hundred_tenants_have_fewer_samples_than_the_pod_monitor_takes() {
    let monitor = include_str!("../../deploy/components/pod-monitor/pod-monitor.yaml");
    let limit = monitor.lines().find_map(|line| line.trim().strip_prefix("sampleLimit: "));
    let limit: usize = limit.expect("a limit").parse().expect("a number");
    let tenants = (0..100).map(|number| {
        format!("tenants.t{number}.base_urls = [\"https://gateway{number}.example\"]\n")
    });
    let program = start(&tenants.collect::<String>(), &[]).await;
    for _ in 0..2 {
        let (_, metrics) = program.ask("GET /metrics", "").await;
        let samples: Vec<_> = metrics.lines().filter(|line| !line.starts_with('#')).collect();
        println!("{} samples", samples.len());
        // A busy tenant has histograms of 18 samples for each interface in use and for three kinds of waits, six results
        // of each interface, and codes and further results.
        let busy = samples.len() + 100 * (7 * (18 + 6) + 3 * 18 + 20);
        assert!(busy < limit * 4 / 5, "{} samples, {busy} of busy tenants", samples.len());
        // Where nothing has happened, there is little.
        assert!(samples.len() < 8_600, "{} samples", samples.len());
        let from_the_start = ["grpc_code=\"OK\"", "grpc_code=\"ResourceExhausted\""];
        let codes = |line: &&str| {
            line.contains("grpc_code=") && !from_the_start.iter().any(|code| line.contains(code))
        };
        let never: Vec<_> = samples.into_iter().filter(codes).collect();
        assert!(never.is_empty(), "{never:?}");
    }
}

#[tokio::test]
async fn only_by_its_own_names_does_the_port_say_anything() {
    let program = start("admin.hosts = [\"Bridge.ops.svc\"]", &[]).await;
    let known =
        ["127.0.0.1", "10.1.2.3:9090", "[::1]:9090", "localhost:19090", "bridge.ops.svc:9090"];
    let foreign = ["evil.example", "evil.example:9090", "localhost.evil.example", "a b", ""];
    for path in PAGES {
        for host in known {
            assert_eq!(raw(program.admin, &get(path, host)).await.0, 200, "{path} {host}");
        }
        // Probes of HTTP/1.0 name no host, and no browser leaves it out.
        let nameless = format!("GET {path} HTTP/1.0\r\n\r\n");
        assert_eq!(raw(program.admin, &nameless).await.0, 200, "{path} without a host");
        for host in foreign {
            let (status, answer) = raw(program.admin, &get(path, host)).await;
            let is_probe = path.starts_with("/readyz") || path == "/healthz";
            assert_eq!(status, if is_probe { 200 } else { 421 }, "{path} {host}: {answer}");
            assert!(answer.contains("admin.hosts"), "{path} {host}: {answer}");
            assert!(!answer.contains("acme"), "{path} {host}: {answer}");
        }
    }
    let change = "PUT /log HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 5\r\n\r\ndebug";
    assert_eq!(raw(program.admin, change).await.0, 421);
    let (_, log) = raw(program.admin, &get("/log", "localhost")).await;
    assert!(!log.contains("filter: debug"), "{log}");
}

#[tokio::test]
async fn pages_of_other_sites_are_told_nothing_and_change_nothing() {
    let program = start("", &[]).await;
    let ask = async |method: &str, path: &str, header: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost:9090\r\n{header}");
        raw(program.admin, &format!("{head}Content-Length: 5\r\n\r\ndebug")).await
    };
    let foreign = [
        "Origin: http://evil.example\r\n",
        "Origin: http://localhost:3000\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n",
        "Origin: http://evil.example\r\nAccess-Control-Request-Method: PUT\r\n",
    ];
    for path in PAGES.into_iter().chain(["/reload", "/x"]) {
        for header in foreign {
            for method in ["GET", "HEAD", "PUT", "POST", "OPTIONS"] {
                let (status, answer) = ask(method, path, header).await;
                assert_eq!(status, 403, "{method} {path} {header}: {answer}");
                assert!(!answer.contains("acme"), "{answer}");
                assert!(!answer.to_lowercase().contains("access-control-"), "{answer}");
                let policy = "cross-origin-resource-policy: same-origin\r\n";
                assert!(answer.contains(policy), "{answer}");
            }
        }
        // A link on another site is followed, and the browser shows what is there by itself.
        let followed = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
        for header in ["", "Origin: http://localhost:9090\r\n", followed] {
            let expected = if path == "/x" { 404 } else { 200 };
            assert_eq!(ask("GET", path, header).await.0, expected, "{path} {header}");
        }
    }
    let own = "Origin: http://localhost:9090\r\n";
    assert_eq!(ask("PUT", "/log", own).await.0, 403, "the page has nothing that changes anything");
    let (_, log) = ask("GET", "/log", "").await;
    assert!(!log.contains("filter: debug"), "{log}");
    assert_eq!(ask("PUT", "/log", "").await.0, 200, "no page");
}

#[tokio::test]
async fn with_a_token_only_its_owner_is_answered_and_probes_get_their_status() {
    let files = TempDir::new().expect("a folder");
    let file = files.path().join("token");
    fs::write(&file, "canary-token\n").expect("written");
    let settings = format!("admin.token_file = {file:?}\nlog.filter = \"trace\"");
    let program = start(&settings, &[]).await;
    let asked = |path: &str, header: &str| {
        raw_request(
            program.admin,
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n"),
        )
    };
    for path in PAGES {
        let (status, answer) = asked(path, "Authorization: Bearer canary-token\r\n").await;
        assert_eq!(status, 200, "{path}: {answer}");
        for header in
            ["", "Authorization: Bearer other\r\n", "Authorization: Basic canary-token\r\n"]
        {
            let (status, answer) = asked(path, header).await;
            let is_probe = path.starts_with("/readyz") || path == "/healthz";
            assert_eq!(status, if is_probe { 200 } else { 401 }, "{path} {header}: {answer}");
            assert!(answer.contains("admin.token_file") && !answer.contains("acme"), "{answer}");
        }
    }
    let change = "PUT /log HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\ndebug";
    assert_eq!(raw(program.admin, change).await.0, 401);
    program.signal("-TERM");
    let (_, printed) = Box::pin(program.ended()).await;
    assert!(!printed.contains("canary-token"), "{printed}");
}

async fn raw_request(admin: SocketAddr, request: String) -> (u16, String) {
    raw(admin, &request).await
}
