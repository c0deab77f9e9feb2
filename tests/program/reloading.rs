//! Changes of the configuration and its files while the program runs.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ccgateway_bridge::{
    client,
    rpc::proto::{GetSessionRequest, agent_session_client::AgentSessionClient},
};
use ccgateway_test_support::{Certificate, Program, run, until, within};
use http::Uri;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr},
    time::sleep,
};
use tokio_rustls::TlsConnector;
use tonic::Code;

use crate::support::{bridge, start};

pub(crate) fn trusting(certificates: &[&Certificate]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.der.clone()).expect("a certificate");
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// The certificate that a new connection is shown.
async fn shown(program: &Program, tls: &ClientConfig) -> CertificateDer<'static> {
    let tcp = TcpStream::connect(program.grpc).await.expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TlsConnector::from(Arc::new(tls.clone())).connect(name, tcp).await.expect("TLS");
    let (_, session) = stream.get_ref();
    session.peer_certificates().expect("it shows one")[0].clone().into_owned()
}

/// Makes `current` the folder that `..data` leads to, as Kubernetes does it for a Secret.
fn swap(folder: &Path, current: &str) {
    let new = folder.join("..data_tmp");
    symlink(current, &new).expect("linked");
    fs::rename(new, folder.join("..data")).expect("renamed");
}

/// Makes a version of a Secret with this certificate.
fn version(folder: &Path, name: &str) -> Certificate {
    let version = folder.join(name);
    fs::create_dir(&version).expect("made");
    Certificate::of("localhost", &version)
}

/// Calls all the time, on connections that are opened anew each time, and counts.
async fn call(
    program_addr: std::net::SocketAddr,
    tls: ClientConfig,
    ends: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
) {
    let origin: Uri =
        format!("https://localhost:{}", program_addr.port()).parse().expect("an origin");
    while !ends.load(Ordering::Relaxed) {
        let mut tls = tls.clone();
        tls.alpn_protocols.clear();
        let channel = client::secure_channel(tls);
        let mut sessions = AgentSessionClient::with_origin(channel, origin.clone());
        for _ in 0..5 {
            let request = GetSessionRequest { agent_id: "1001".into(), ..<_>::default() };
            let answer = sessions.get_session(request).await.expect_err("nobody is signed in");
            assert_eq!(answer.code(), Code::NotFound, "{answer:?}");
            calls.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(4)).await;
        }
    }
}

async fn until_shown(program: &Program, tls: &ClientConfig, certificate: &Certificate) {
    within("the new certificate to be shown", async {
        while shown(program, tls).await != certificate.der {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_kubernetes_replaces_is_shown_and_no_call_fails() {
    let folder = TempDir::new().expect("a folder");
    let [first, second] = ["..first", "..second"].map(|name| version(folder.path(), name));
    swap(folder.path(), "..first");
    for name in ["tls.pem", "tls.key"] {
        symlink(format!("..data/{name}"), folder.path().join(name)).expect("linked");
    }
    let settings = format!(
        "listeners.default.tls = {{ certificate_file = {:?}, key_file = {:?} }}\nserver.reload_interval = \"1s\"",
        folder.path().join("tls.pem"),
        folder.path().join("tls.key")
    );
    let program = start(&settings, &[]).await;
    let tls = trusting(&[&first, &second]);
    assert_eq!(shown(&program, &tls).await, first.der);

    let (ends, calls) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let calling = [(); 4]
        .map(|()| tokio::spawn(call(program.grpc, tls.clone(), ends.clone(), calls.clone())));
    swap(folder.path(), "..second");
    until_shown(&program, &tls, &second).await;
    within("it to be counted", async {
        while program.metric("ccgw_reloads_total").await < 1.0 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let before = calls.load(Ordering::Relaxed);
    assert!(before > 0, "calls go on meanwhile");

    // A pair that does not belong together: what is shown stays, and is told once.
    let broken = folder.path().join("..broken");
    fs::create_dir(&broken).expect("made");
    fs::copy(&first.pem, broken.join("tls.pem")).expect("copied");
    fs::copy(&second.key, broken.join("tls.key")).expect("copied");
    swap(folder.path(), "..broken");
    program.printed("a changed configuration is refused").await;
    assert_eq!(shown(&program, &tls).await, second.der);
    let (_, ready) = program.ask("GET /readyz?verbose", "").await;
    assert!(ready.contains("what was before stays") && ready.contains("key_file"), "{ready}");
    assert!((program.metric("ccgw_reload_failures_total").await - 1.0).abs() < 0.1);

    swap(folder.path(), "..first");
    until_shown(&program, &tls, &first).await;
    ends.store(true, Ordering::Relaxed);
    for calling in calling {
        calling.await.expect("no call failed");
    }
    let all = calls.load(Ordering::Relaxed);
    println!("{all} calls meanwhile");
    assert!(all > before);
    assert_eq!(program.said("a changed configuration is refused"), 1);
    let (_, ready) = program.ask("GET /readyz?verbose", "").await;
    assert!(!ready.contains("configuration:"), "{ready}");
}

#[tokio::test]
async fn sighup_reads_the_configuration_and_says_what_came_of_it() {
    let program = start("server.reload_interval = \"off\"\ncallers.all = { principals = [\"anonymous\"], tenants = [\"*\"], rights = [\"read\"] }\n", &[]).await;
    program.signal("-HUP");
    program.printed("the configuration has not changed").await;
    let text = fs::read_to_string(&program.config).expect("there");
    let mut sessions = ccgateway_test_support::Clients::of(program.grpc).sessions;
    let show = || GetSessionRequest { agent_id: "1001".into(), ..<_>::default() };
    assert_eq!(sessions.get_session(show()).await.expect_err("nobody").code(), Code::NotFound);

    fs::write(&program.config, text.replace("\"read\"", "\"write\"")).expect("written");
    program.signal("-HUP");
    program.printed("a changed configuration is in force").await;
    assert_eq!(
        sessions.get_session(show()).await.expect_err("not allowed").code(),
        Code::PermissionDenied
    );

    fs::write(&program.config, text.replace("\"read\"", "\"reed\"")).expect("written");
    program.signal("-HUP");
    program.printed("\\\"reed\\\" is no right").await;
    assert_eq!(
        sessions.get_session(show()).await.expect_err("not allowed").code(),
        Code::PermissionDenied
    );

    fs::write(
        &program.config,
        text.replace("[tenants.acme]", "[tenants.acme]\nlimits.sessions = 77"),
    )
    .expect("written");
    program.signal("-HUP");
    program.printed("these changes need a restart of the bridge").await;
    assert_eq!(sessions.get_session(show()).await.expect_err("nobody").code(), Code::NotFound);
}

#[tokio::test]
async fn a_warning_is_logged_when_it_is_new_and_not_at_each_reload() {
    const WARNING: &str = "gateway.host_requests allows only";
    let program = start("server.reload_interval = \"off\"\ncallers.all = { principals = [\"anonymous\"], tenants = [\"*\"], rights = [\"read\"] }\n", &[]).await;
    let text = fs::read_to_string(&program.config).expect("there");
    for (nth, right) in ["write", "session", "watch"].into_iter().enumerate() {
        let text = text.replace("\"read\"", &format!("\"{right}\""));
        let text = text.replace("[tenants.acme]\n", "[tenants.acme]\nlimits.requests = 900\n");
        fs::write(&program.config, text).expect("written");
        program.signal("-HUP");
        until("it to be in force", || {
            program.said("a changed configuration is in force") == nth + 1
        })
        .await;
    }
    program.signal("-TERM");
    let (_, logged) = program.ended().await;
    assert_eq!(logged.matches(WARNING).count(), 1, "{logged}");
}

/// What `reload` prints for this program, and its exit code.
async fn reload(program: &Program, args: &[&str]) -> (Option<i32>, String) {
    let mut command = bridge();
    command.arg("reload").args(args).arg("--config").arg(&program.config);
    command.args(["--admin-listen", &program.admin.to_string()]);
    run(command).await
}

#[tokio::test]
async fn reload_puts_a_change_into_force_and_a_dry_run_only_says_what_it_is() {
    let files = TempDir::new().expect("a folder");
    let token = files.path().join("token");
    fs::write(&token, "a token for the admin port").expect("written");
    let settings = format!("server.reload_interval = \"off\"\nadmin.token_file = {token:?}\n");
    let program = start(&settings, &[]).await;
    let unchanged = (Some(0), "nothing has changed\n".to_owned());
    assert_eq!(reload(&program, &["--dry-run"]).await, unchanged);

    let text = fs::read_to_string(&program.config).expect("there");
    let lines = "[tenants.acme]\nlimits.calls = 77\nlimits.sessions = 78";
    let text = text.replace("[tenants.acme]", lines);
    fs::write(&program.config, &text).expect("written");
    let would = "would be in force: tenants.acme.limits.calls\n\
                 takes a restart: tenants.acme.limits.sessions\n";
    for _ in 0..2 {
        assert_eq!(reload(&program, &["--dry-run"]).await, (Some(0), would.to_owned()));
    }
    let done = would.replace("would be in force", "in force");
    assert_eq!(reload(&program, &[]).await, (Some(0), done));
    let ask = "GET /\nAuthorization: Bearer a token for the admin port";
    let (_, page) = program.ask(ask, "").await;
    assert!(page.contains("Takes a restart: tenants.acme.limits.sessions"), "{page}");
    let needs = "takes a restart: tenants.acme.limits.sessions\n".to_owned();
    for _ in 0..2 {
        assert_eq!(reload(&program, &[]).await, (Some(0), needs.clone()));
    }

    // What is wrong only for the bridge that runs: this command does not look into tenants' files.
    fs::write(&program.config, text.replace("limits.calls = 77", "limits.calls = 0"))
        .expect("written");
    for args in [&["--dry-run"][..], &[]] {
        let (code, printed) = reload(&program, args).await;
        assert_eq!(code, Some(2), "{printed}");
        assert!(printed.contains("tenants.acme.limits.calls"), "{printed}");
    }
    program.signal("-TERM");
    let (_, logged) = program.ended().await;
    assert_eq!(logged.matches("a changed configuration is in force").count(), 1, "{logged}");
    assert_eq!(logged.matches("these changes need a restart").count(), 1, "{logged}");
}

#[tokio::test]
async fn whoever_asks_what_would_change_again_and_again_does_not_put_it_off() {
    let program = start("server.reload_interval = \"1s\"\n", &[]).await;
    let text = fs::read_to_string(&program.config).expect("there");
    let changed = text.replace("[tenants.acme]", "[tenants.acme]\nlimits.calls = 77");
    fs::write(&program.config, changed).expect("written");
    within("the change to be in force", async {
        while program.said("a changed configuration is in force") == 0 {
            assert_eq!(program.ask("GET /reload", "").await.0, 200);
        }
    })
    .await;
}

#[tokio::test]
async fn reload_says_what_is_wrong_if_no_bridge_does_it() {
    let program = start("server.reload_interval = \"off\"\n", &[]).await;
    let config = program.config.clone();
    let admin = program.admin.to_string();
    let change = "POST /reload\nOrigin: http://elsewhere";
    let (status, said) = program.ask(change, "").await;
    assert_eq!((status, said.contains("web page")), (403, true), "{said}");
    let site = program.site.clone();
    program.stop().await;
    for (admin, code, words) in [(&*admin, 1, "no bridge answers at"), ("off", 2, "send SIGHUP")] {
        let mut command = bridge();
        command.args(["reload", "--admin-listen", admin]).arg("--config").arg(&config);
        let (ended, printed) = run(command).await;
        assert_eq!((ended, printed.contains(words)), (Some(code), true), "{printed}");
    }
    drop(site);
}

/// A program whose configuration comes from a pipe.
struct Piped {
    child: Child,
    pipe: PathBuf,
    lines: Lines<BufReader<ChildStderr>>,
    /// The lines that it has written.
    heard: String,
    _folder: TempDir,
}

impl Piped {
    /// A program that waits for its configuration.
    fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let pipe = folder.path().join("bridge.toml");
        make_pipe(&pipe);
        let mut command = bridge();
        let mut child =
            command.arg("--config").arg(&pipe).stderr(Stdio::piped()).spawn().expect("it runs");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        Self { child, pipe, lines, heard: String::new(), _folder: folder }
    }

    /// Gives it a configuration.
    async fn write(&self) {
        let text = "listeners.default.address = \"127.0.0.1:0\"\nadmin.address = \"off\"\n\
                    tenants.acme.base_urls = [\"https://gateway.example\"]\n";
        let pipe = self.pipe.clone();
        let writing = tokio::task::spawn_blocking(move || fs::write(pipe, text));
        within("the reading", writing).await.expect("no panic").expect("written");
    }

    /// Waits until it has written a line with these words, before or after others.
    async fn until(&mut self, words: &str) {
        within(words, async {
            while !self.heard.contains(words) {
                let line = self.lines.next_line().await.expect("text").expect("it goes on");
                self.heard.push_str(&line);
            }
        })
        .await;
    }

    fn signal(&self, signal: &str) {
        ccgateway_test_support::signal(self.child.id().expect("it runs"), signal);
    }

    async fn stop(mut self) {
        self.signal("-TERM");
        assert!(within("its end", self.child.wait()).await.expect("waited for").success());
    }
}

fn make_pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().expect("it runs");
    assert!(made.success());
}

#[tokio::test]
async fn a_configuration_from_a_pipe_is_read_once() {
    let mut program = Piped::start();
    program.write().await;
    program.until("\"serving\"").await;
    program.signal("-HUP");
    program.until("cannot be read again").await;
    program.stop().await;
}

#[tokio::test]
async fn a_signal_that_comes_while_the_configuration_is_read_ends_nothing() {
    const SIGHUP: u64 = 1;
    let mut program = Piped::start();
    let status = format!("/proc/{}/status", program.child.id().expect("it runs"));
    let is_caught = || {
        let status = fs::read_to_string(&status).expect("it runs");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("there");
        u64::from_str_radix(caught.trim(), 16).expect("a number") & SIGHUP != 0
    };
    until("SIGHUP to be caught", is_caught).await;
    for signal in ["-HUP", "-USR1", "-USR2", "-ALRM"] {
        program.signal(signal);
    }
    program.write().await;
    program.until("\"serving\"").await;
    program.until("cannot be read again").await;
    program.stop().await;
}

#[tokio::test]
async fn a_file_that_has_become_a_pipe_is_refused_and_holds_up_no_later_reload() {
    let program = start("server.reload_interval = \"off\"\n", &[]).await;
    let ca = program.config.with_file_name("ca.pem");
    let kept = program.config.with_file_name("kept.pem");
    fs::rename(&ca, &kept).expect("renamed");
    make_pipe(&ca);
    program.signal("-HUP");
    let printed = program.printed("it is a pipe or a device").await;
    assert!(printed.contains("tenants.acme.tls.ca_file: cannot read"), "{printed}");
    fs::rename(&kept, &ca).expect("renamed");
    program.signal("-HUP");
    program.printed("the configuration is again as it is in force").await;
}
