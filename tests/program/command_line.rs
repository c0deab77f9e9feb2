use std::{collections::BTreeSet, process::Stdio};

use ccgateway_bridge::{
    command::Args,
    version::{NUMBER, VERSION},
};
use ccgateway_sim::Options;
use ccgateway_test_support::{Site, run, within};
use clap::CommandFactory as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::UnixDatagram,
    process::Command,
};

use crate::{
    demo::FREE,
    support::{bridge, register, setup, start, start_with},
};

#[tokio::test]
async fn check_config_names_all_five_mistakes() {
    let files = TempDir::new().expect("a folder");
    let file = files.path().join("bridge.toml");
    let text = "listeners.default.address = \"everywhere\"\nserver.worker_treads = 2\n\
                [tenants.acme]\nbase_urls = \"ftp://ccg\"\nagent_ids = \"900-100\"\n\
                [tenants.acme.tls]\nca_file = \"missing.pem\"\n";
    std::fs::write(&file, text).expect("written");
    let mut command = bridge();
    command.arg("check-config").arg("--config").arg(&file);
    let (code, printed) = run(command).await;
    assert_eq!(code, Some(2), "{printed}");
    assert!(printed.contains("5 mistakes"), "{printed}");
    for (line, key) in [
        (1, "listeners.default.address"),
        (2, "server.worker_treads"),
        (4, "tenants.acme.base_urls"),
        (5, "tenants.acme.agent_ids"),
        (7, "tenants.acme.tls.ca_file"),
    ] {
        let place = format!("bridge.toml:{line}");
        let named = printed.lines().any(|shown| shown.contains(&place) && shown.contains(key));
        assert!(named, "{place} {key} in: {printed}");
    }
}

/// As with `| head`.
#[tokio::test]
async fn a_reader_who_stops_reading_is_no_failure() {
    let files = TempDir::new().expect("a folder");
    let file = files.path().join("bridge.toml");
    std::fs::write(&file, "tenants.acme.base_urls = \"https://localhost:1\"\n").expect("written");
    let config = file.display().to_string();
    let commands = [
        (&["check-config", "--config", &config][..], 0),
        (&["doctor", "--config", &config], 1),
        (&["completions", "bash"], 0),
        (&["man"], 0),
        (&["--help"], 0),
        (&["--version"], 0),
        (&["call", "get-state", "--help"], 0),
        (&["check-config", "--config", "/nowhere.toml"], 2),
    ];
    for (arguments, expected) in commands {
        let closed = || Stdio::from(std::io::pipe().expect("a pipe").1);
        let mut command = bridge();
        command.args(arguments).stdout(closed()).stderr(closed());
        let status = within("the command's end", command.status()).await.expect("started");
        assert_eq!(status.code(), Some(expected), "{arguments:?}");
    }
}

/// All that print a result, as if the disk that takes it were full. Each of them succeeds otherwise.
#[tokio::test]
async fn a_result_that_cannot_be_written_is_no_success() {
    let program = start("", &[]).await;
    register(&program, 1001).await;
    let (config, addr) = (program.config.display().to_string(), program.grpc.to_string());
    let admin = program.admin.to_string();
    let folder = program.site.path("dev-certs").display().to_string();
    let of = |words: &str| {
        let words =
            words.replace("CONFIG", &config).replace("ADDR", &addr).replace("ADMIN", &admin);
        let words = words.replace("FOLDER", &folder);
        words.split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    let free = format!("demo {}", FREE.join(" "));
    let mut unseen: BTreeSet<_> =
        Args::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for (command, expected) in [
        ("--help", 1),
        ("--version", 1),
        ("help", 1),
        ("help call set-busy", 1),
        ("check-config --config CONFIG", 1),
        ("check-config --config CONFIG --json", 1),
        ("reload --config CONFIG --admin-listen ADMIN", 1),
        ("doctor --config CONFIG", 1),
        ("doctor --config CONFIG --json", 1),
        ("completions bash", 1),
        ("completions zsh", 1),
        ("completions fish", 1),
        ("man", 1),
        ("man call set-busy", 1),
        // The agent may have changed, and the answer that says so is lost.
        ("call set-busy --agent 1001 --addr ADDR", 3),
        ("call get-state --agent 1001 --addr ADDR --json", 3),
        ("call batch-set-busy --agent 1001 --reason 201 --prolong --addr ADDR", 3),
        ("call watch-events --addr ADDR --json", 3),
        // Failed anyway.
        ("call set-busy --agent 1001 --addr ADDR --json", 1),
        (&free, 1),
        ("dev-certs FOLDER", 1),
    ] {
        let arguments = of(command);
        unseen.remove(&arguments[0]);
        let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux");
        let child = bridge().args(&arguments).stdout(full).spawn().expect("started");
        let done = within(command, child.wait_with_output()).await.expect("waited for");
        let printed = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(expected), "{command}: {printed}");
        assert!(printed.contains("stdout: No space left on device"), "{command}: {printed}");
    }
    // It has no result, and runs until it is stopped.
    unseen.remove("serve");
    assert!(unseen.is_empty(), "{unseen:?}");
}

#[tokio::test]
async fn the_version_names_the_commit() {
    let mut command = bridge();
    command.arg("--version");
    let (code, printed) = run(command).await;
    assert_eq!((code, printed.trim()), (Some(0), &*format!("ccgateway-bridge {VERSION}")));
    // Sources without a repository have none to name.
    let mut git = Command::new("git");
    git.args(["rev-parse", "--short=12", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".git").exists() {
        let (_, head) = run(git).await;
        assert_eq!(format!("{VERSION}\n"), format!("{NUMBER} ({})\n", head.trim()));
    }
}

#[tokio::test]
async fn a_good_configuration_is_said_to_be_good() {
    let site = Site::new(Options::default()).await;
    let mut command = bridge();
    command.arg("check-config").env("CCGW_CONFIG", site.write_config(&setup("")));
    let (code, printed) = run(command).await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains(&site.gateway.base_url()), "{printed}");
}

#[tokio::test]
async fn only_what_serves_and_what_checks_that_takes_its_flags() {
    let site = Site::new(Options::default()).await;
    let file = site.write_config(&setup("")).display().to_string();
    for (arguments, expected, words) in [
        ("--config FILE check-config", 0, "is good"),
        ("--config /nowhere.toml check-config --config FILE", 0, "is good"),
        ("--listen here check-config --config FILE", 2, "--listen  listeners.default.address"),
        ("check-config --config FILE --listen here", 2, "--listen  listeners.default.address"),
        ("serve --config FILE --log-format xml", 2, "[possible values: auto, human, json]"),
        ("doctor --config FILE --worker-threads 2", 2, "unexpected argument '--worker-threads'"),
        ("call get-state --agent 1001 --listen here", 2, "unexpected argument '--listen'"),
        ("completions bash --config FILE", 2, "unexpected argument '--config'"),
        ("--log-filter debug man", 2, "--log-filter in front of a command is for serve"),
    ] {
        let mut command = bridge();
        command.args(arguments.replace("FILE", &file).split(' '));
        // What the command line says comes first.
        command.env("CCGW_CONFIG", "/nowhere/at/all.toml");
        let (code, printed) = run(command).await;
        assert_eq!(code, Some(expected), "{arguments}: {printed}");
        assert!(printed.contains(words), "{words:?} in: {printed}");
    }
}

/// The JSON that a command prints, which must be all that it prints.
async fn printed_json(command: &str, file: &str) -> (Option<i32>, Value) {
    let mut asked = bridge();
    asked.args([command, "--json", "--config", file]);
    let (code, printed) = run(asked).await;
    let json = serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e}: {printed}"));
    (code, json)
}

#[tokio::test]
async fn check_config_tells_programs_what_the_configuration_says() {
    let files = TempDir::new().expect("a folder");
    let file = files.path().join("bridge.toml").display().to_string();
    let text = "admin.address = \"off\"\n[tenants.acme]\nbase_urls = \"https://ccg\"\n";
    std::fs::write(&file, text).expect("written");
    let expected = json!({
        "good": true,
        "mistakes": [],
        "warnings": [],
        "listeners": [{ "name": "default", "address": "127.0.0.1:50051", "tls": false }],
        "admin": null,
        "tenants": [{ "id": "acme", "base_urls": ["https://ccg:8043/agentgateway/resource"] }],
        "store": "memory",
    });
    assert_eq!(printed_json("check-config", &file).await, (Some(0), expected));
}

#[tokio::test]
async fn mistakes_are_told_to_programs_with_their_places() {
    let files = TempDir::new().expect("a folder");
    let file = files.path().join("bridge.toml").display().to_string();
    std::fs::write(&file, "[tenants.acme]\nbase_urls = \"ftp://ccg\"\n").expect("written");
    for command in ["check-config", "doctor"] {
        let (code, told) = printed_json(command, &file).await;
        assert_eq!(code, Some(2), "{told}");
        let mistakes = told["mistakes"].as_array().expect("a list");
        assert_eq!(mistakes.len(), 1, "{told}");
        assert_eq!(mistakes[0]["place"], format!("{file}:2"), "{told}");
        assert_eq!(mistakes[0]["line"], 2, "{told}");
        assert_eq!(mistakes[0]["key"], "tenants.acme.base_urls", "{told}");
        assert!(mistakes[0]["problem"].is_string() && mistakes[0]["remedy"].is_string(), "{told}");
    }
    assert_eq!(printed_json("check-config", &file).await.1["good"], false);
}

#[tokio::test]
async fn a_bad_configuration_does_not_start() {
    let (code, printed) = run(bridge()).await;
    assert_eq!(code, Some(2), "{printed}");
    assert!(printed.contains("tenants"), "{printed}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_key() {
    let program = start("", &[]).await;
    let mut command = bridge();
    let taken = program.grpc.to_string();
    command.arg("--config").arg(&program.config);
    command.args(["--listen", &taken]);
    let (code, printed) = run(command).await;
    assert_eq!(code, Some(1), "{printed}");
    let last = printed.lines().last().expect("said");
    assert!(last.contains(&taken) && last.contains("listeners.default.address"), "{printed}");
    assert!(printed.lines().count() > 1, "the log comes before it: {printed}");
}

#[tokio::test]
async fn readiness_follows_the_life_of_the_process() {
    let program = start("server.drain.delay = \"2s\"", &[]).await;
    assert_eq!(program.ask("GET /healthz", "").await, (200, "ok\n".into()));
    assert_eq!(program.ask("GET /readyz", "").await, (200, "ready\n".into()));
    let (status, body) = program.ask("GET /readyz?verbose", "").await;
    assert_eq!(status, 200);
    assert!(body.contains("tenant acme: sessions kept 0, entered 0 times\n"), "{body}");
    assert_eq!(program.ask("GET /nothing", "").await.0, 404);
    program.signal("-TERM");
    let draining = async {
        while program.ask("GET /readyz", "").await.0 != 503 {
            tokio::task::yield_now().await;
        }
    };
    within("not ready", draining).await;
    assert_eq!(program.ask("GET /healthz", "").await.0, 200);
    assert_eq!(program.ended().await.0, Some(0));
}

#[tokio::test]
async fn systemd_is_told_when_the_bridge_serves_and_when_it_stops() {
    let files = TempDir::new().expect("a folder");
    let path = files.path().join("notify");
    let systemd = UnixDatagram::bind(&path).expect("bound");
    let variables = [("NOTIFY_SOCKET", path.to_str().expect("text"))];
    let program = start_with("server.drain.delay = \"0s\"", &variables).await;
    for told in ["READY=1", "STOPPING=1"] {
        let mut buffer = [0; 64];
        let length = within(told, systemd.recv(&mut buffer)).await.expect("a message");
        assert_eq!(&buffer[..length], told.as_bytes());
        if told == "READY=1" {
            program.signal("-TERM");
        }
    }
    assert_eq!(program.ended().await.0, Some(0));
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let program = start("server.drain.delay = \"60s\"", &[]).await;
    program.signal("-INT");
    let draining = async {
        while program.ask("GET /readyz", "").await.0 != 503 {
            tokio::task::yield_now().await;
        }
    };
    within("not ready", draining).await;
    program.signal("-INT");
    assert_eq!(program.ended().await.0, Some(1));
}

#[tokio::test]
async fn an_unsafe_configuration_is_reported_at_the_start_and_in_readiness() {
    let unsafe_tenant = "[tenants.other]\nbase_urls = \"https://127.0.0.1:1\"\n\
                         tls.insecure_skip_verify = true";
    let program = start(unsafe_tenant, &[]).await;
    let (status, body) = program.ask("GET /readyz", "").await;
    assert_eq!(status, 200);
    assert!(body.contains("tenants.other.tls.insecure_skip_verify"), "{body}");
    program.signal("-TERM");
    let (_, printed) = program.ended().await;
    assert!(printed.contains("tenants.other.tls.insecure_skip_verify"), "{printed}");
}

#[cfg(unix)]
#[tokio::test]
async fn the_limit_of_open_files_is_raised_at_the_start() {
    let program = start("", &[]).await;
    let config = &program.config;
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -Sn 200 && exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_ccgateway-bridge"),
    ]);
    command.arg("--config").arg(config).args(["--log-format", "json"]);
    let mut child = command.kill_on_drop(true).stderr(Stdio::piped()).spawn().expect("started");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let limit = async {
        loop {
            let line = lines.next_line().await.expect("readable").expect("it goes on");
            let line: Value = serde_json::from_str(&line).expect("JSON");
            if line["message"] == "open files are limited" {
                return line["files"].as_u64().expect("a number");
            }
        }
    };
    assert!(within("the line", limit).await > 200);
}

#[tokio::test]
async fn sigquit_drains_as_sigterm_does() {
    let program = start("server.drain.delay = \"0s\"", &[]).await;
    program.signal("-QUIT");
    let (code, printed) = program.ended().await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("drained: every call had its answer"), "{printed}");
}

#[tokio::test]
async fn signals_that_the_bridge_does_not_use_do_not_end_it() {
    let program = start("server.drain.delay = \"0s\"", &[]).await;
    for signal in [
        "-HUP", "-ALRM", "-IO", "-VTALRM", "-PROF", "-XCPU", "-XFSZ", "-PIPE", "-USR1", "-USR2",
        "-34", "-64",
    ] {
        program.signal(signal);
        assert_eq!(program.ask("GET /readyz", "").await.0, 200, "{signal}");
    }
    program.printed("the configuration has not changed").await;
    for name in ["SIGALRM", "SIGIO", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGXFSZ"] {
        program.printed(&format!("\"signal\":\"{name}\"")).await;
    }
    program.signal("-TERM");
    assert_eq!(program.ended().await.0, Some(0));
}
