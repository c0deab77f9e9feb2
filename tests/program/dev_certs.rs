//! Certificates and a token for trying out how callers show who they are.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
    path::Path,
};

use ccgateway_sim::Options;
use ccgateway_test_support::{Output, PASSWORD, Program, Setup, Site, run};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    demo::with_path,
    support::{bridge, setup},
};

const FILES: [&str; 8] = [
    "ca.pem",
    "server.pem",
    "server.key",
    "client.pem",
    "client.key",
    "jwks.json",
    "token.jwt",
    "bridge-dev.toml",
];

/// Runs the command in this folder.
async fn dev_certs(place: &Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = bridge();
    command.arg("dev-certs").args(args).current_dir(place);
    run(command).await
}

/// Makes the files in a folder of the site.
async fn made(site: &Site, args: &[&str]) -> String {
    let (code, printed) = dev_certs(&site.path(""), args).await;
    assert_eq!(code, Some(0), "{printed}");
    printed
}

/// Starts a bridge with the sections that are in this folder of the site.
async fn start(site: &Site, folder: &str) -> Program {
    let sections = site.path(folder).join("bridge-dev.toml");
    let tenant = fs::read_to_string(sections).expect("written");
    let listen = Some("0.0.0.0:0".parse().expect("an address"));
    let setup = Setup { tenant, listen, ..setup("") };
    Program::start(site, bridge(), &setup, Output::Read).await
}

/// The commands that are printed for the user, each in one line.
fn commands(printed: &str) -> Vec<String> {
    let printed = printed.replace("\\\n", "");
    let indented = printed.lines().filter_map(|line| line.strip_prefix("  "));
    let is_command =
        |line: &&str| line.starts_with("cat ") || line.starts_with("ccgateway-bridge ");
    indented.filter(is_command).map(str::to_owned).collect()
}

/// Runs a line as a user would, in the folder of the site.
async fn typed(site: &Site, line: &str) -> (Option<i32>, String) {
    let programs = Path::new(env!("CARGO_BIN_EXE_ccgateway-bridge")).parent().expect("a folder");
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(site.path("")).env("PATH", with_path(programs));
    run(shell).await
}

#[track_caller]
fn check((code, printed): &(Option<i32>, String), expected: i32, words: &[&str]) {
    assert_eq!(*code, Some(expected), "{printed}");
    for word in words {
        assert!(printed.contains(word), "{word:?} in: {printed}");
    }
}

#[tokio::test]
async fn the_commands_that_are_printed_work_word_for_word() {
    for (folder, args) in [("dev-certs", &[][..]), ("it's mine", &["it's mine"])] {
        let site = Site::new(Options::default()).await;
        fs::copy(site.write_config(&setup("")), site.path("bridge.toml")).expect("copied");
        let printed = made(&site, args).await;
        let commands = commands(&printed);
        let [add, check_config, serve, by_certificate, by_token] = &commands[..] else {
            panic!("{printed}")
        };
        check(&typed(&site, add).await, 0, &[]);
        let good = ["The configuration is good.", "with TLS", "tenant acme"];
        check(&typed(&site, check_config).await, 0, &good);
        assert_eq!(*serve, check_config.replace("check-config", "serve"));

        let program = start(&site, folder).await;
        let addr = format!("--addr localhost:{}", program.grpc.port());
        let sign_in = by_token.replace("get-state", "sign-in");
        let sign_in = format!("printf {PASSWORD} | {sign_in} --password-stdin {addr}");
        check(&typed(&site, &sign_in).await, 0, &["OK: signed in"]);
        let set_busy = by_certificate.replace("get-state", "set-busy");
        check(&typed(&site, &format!("{set_busy} {addr}")).await, 0, &["OK: accepted"]);
        for line in [by_certificate, by_token] {
            let asked = typed(&site, &format!("{line} {addr}")).await;
            check(&asked, 0, &["OK: the agent is busy"]);
        }
        let (with_neither, _) = by_token.split_once("--token-file").expect("a token");
        let asked = typed(&site, &format!("{with_neither} {addr}")).await;
        check(&asked, 1, &["UNAUTHENTICATED: CALLER_UNKNOWN", "show a certificate or a token"]);
    }
}

#[tokio::test]
async fn what_is_printed_fits_a_terminal() {
    let place = TempDir::new().expect("a folder");
    let (_, printed) = dev_certs(place.path(), &["--host", "bridge.example"]).await;
    for line in printed.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for name in FILES {
        assert!(printed.contains(&format!("\n  {name} ")), "{name} in: {printed}");
    }
    let words: Vec<_> = printed.split_whitespace().collect();
    let hosts = "for localhost, 127.0.0.1, ::1, bridge.example server.key";
    assert!(words.join(" ").contains(hosts), "{printed}");
}

#[tokio::test]
async fn the_bridge_and_the_caller_have_the_names_that_are_given() {
    let site = Site::new(Options::default()).await;
    let id = "spiffe://prod.example/ns/ivr";
    made(&site, &["--host", "127.0.0.2", "--spiffe-id", id, "--host", "bridge.example"]).await;
    made(&site, &["local"]).await;
    for (folder, at_host, expected, words) in [
        ("dev-certs", "127.0.0.2", 1, "SESSION_NOT_FOUND"),
        ("local", "127.0.0.1", 1, "SESSION_NOT_FOUND"),
        ("local", "127.0.0.2", 2, "invalid peer certificate"),
    ] {
        let program = start(&site, folder).await;
        let call = format!(
            "ccgateway-bridge call get-session --agent 1001 --addr {at_host}:{} --ca {folder}/ca.pem \
             --certificate {folder}/client.pem --key {folder}/client.key",
            program.grpc.port()
        );
        check(&typed(&site, &call).await, expected, &[words]);
    }
    let sections = fs::read_to_string(site.path("dev-certs/bridge-dev.toml")).expect("written");
    assert!(sections.contains(id), "{sections}");
}

#[tokio::test]
async fn who_the_caller_is_can_come_by_standard_input() {
    let site = Site::new(Options::default()).await;
    made(&site, &["x"]).await;
    let program = start(&site, "x").await;
    let call = format!(
        "ccgateway-bridge call get-session --agent 1001 --ca x/ca.pem --addr localhost:{}",
        program.grpc.port()
    );
    for (shown, option, expected, words) in [
        ("x/client.pem x/client.key", "--certificate -", 1, "SESSION_NOT_FOUND"),
        ("x/client.pem", "--certificate - --key x/client.key", 1, "SESSION_NOT_FOUND"),
        ("x/token.jwt", "--token-file -", 1, "SESSION_NOT_FOUND"),
        ("x/client.pem", "--certificate -", 2, "has no usable private key; give --key"),
        ("/dev/null", "--token-file -", 2, "--token-file -: has no token"),
    ] {
        let done = typed(&site, &format!("cat {shown} | {call} {option}")).await;
        check(&done, expected, &[words]);
    }
}

#[tokio::test]
async fn only_their_owner_can_read_keys_and_tokens() {
    let place = TempDir::new().expect("a folder");
    let secrets = ["server.key", "client.key", "token.jwt"];
    let elsewhere = place.path().join("elsewhere");
    for args in [&["x"][..], &["x", "--force"]] {
        let (code, printed) = dev_certs(place.path(), args).await;
        assert_eq!(code, Some(0), "{printed}");
        for name in FILES {
            let file = fs::symlink_metadata(place.path().join("x").join(name)).expect("written");
            let others = file.permissions().mode() & 0o077;
            assert!(file.is_file(), "{name}");
            assert_eq!(others == 0, secrets.contains(&name), "{name}: {others:o}");
            assert_eq!(file.permissions().mode() & 0o600, 0o600, "{name}");
        }
        // Of what was there before nothing is left, neither its mode nor where it led.
        let key = place.path().join("x/client.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o666)).expect("changed");
        let key = place.path().join("x/server.key");
        fs::remove_file(&key).expect("removed");
        symlink(&elsewhere, &key).expect("linked");
    }
    assert!(!elsewhere.exists());
}

#[tokio::test]
async fn files_are_replaced_only_by_force() {
    let place = TempDir::new().expect("a folder");
    let read = |name: &str| fs::read_to_string(place.path().join("x").join(name));
    fs::create_dir(place.path().join("x")).expect("made");
    for name in ["client.key", "token.jwt"] {
        fs::write(place.path().join("x").join(name), "mine").expect("written");
    }
    let refused = dev_certs(place.path(), &["x"]).await;
    check(&refused, 1, &["x has client.key, token.jwt already", "another folder", "--force"]);
    for name in FILES {
        let expected = ["client.key", "token.jwt"].contains(&name).then_some("mine");
        assert_eq!(read(name).ok().as_deref(), expected, "{name}");
    }

    check(&dev_certs(place.path(), &["x", "--force"]).await, 0, &["Written to x:"]);
    let before = FILES.map(|name| read(name).expect("written"));
    check(&dev_certs(place.path(), &["x", "--force"]).await, 0, &["Written to x:"]);
    for (name, before) in FILES.iter().zip(before) {
        // The sections are the same each time.
        assert_eq!(read(name).expect("written") == before, *name == "bridge-dev.toml", "{name}");
    }
}

#[tokio::test]
async fn who_cannot_have_the_files_is_told_why() {
    let place = TempDir::new().expect("a folder");
    fs::write(place.path().join("file"), "").expect("written");
    fs::create_dir_all(place.path().join("x/ca.pem")).expect("made");
    for (args, code, words) in [
        (
            &["file/certs"][..],
            1,
            ["file/certs cannot be written: Not a directory", "you may write"],
        ),
        (&["/proc/certs"], 1, ["/proc/certs cannot be written", "you may write"]),
        (&["x", "--force"], 1, ["x/ca.pem cannot be written: Is a directory", "you may write"]),
        (&["--host", "bridge:50051"], 2, ["'--host <NAME>'", "give a DNS name or an IP address"]),
        (&["--spiffe-id", "dev"], 2, ["'--spiffe-id <URI>'", "give spiffe://DOMAIN/PATH"]),
    ] {
        check(&dev_certs(place.path(), args).await, code, &words);
    }

    let mut command = bridge();
    let folder = OsStr::from_bytes(b"certs-\xff");
    command.arg("dev-certs").arg(folder).current_dir(place.path());
    check(&run(command).await, 1, &["its name is not UTF-8", "give another folder"]);
    assert!(!place.path().join(folder).exists());
}
