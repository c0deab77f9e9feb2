//! Gateways are old: their certificates and keys are taken where somebody has pinned them, and where that
//! cannot be, the doctor says why.

use std::{path::PathBuf, process::Stdio};

use ccgateway_test_support::{command, python, run};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::support::{bridge, unwrapped};

/// A server with a certificate of `openssl`.
struct OldGateway {
    files: TempDir,
    port: String,
    _server: Child,
}

/// X.509 version 3, as it is today.
const VERSION_3: &[&str] = &["req", "-x509"];

async fn openssl(files: &TempDir, args: &[&str]) -> bool {
    let mut openssl = command("openssl");
    openssl.current_dir(files.path()).args(args);
    run(openssl).await.0 == Some(0)
}

impl OldGateway {
    /// `key` is what `openssl` takes after `-newkey`, and `server` what the server takes after the files.
    async fn start(is_version_1: bool, key: &[&str], server: &[&str]) -> Self {
        let files = TempDir::new().expect("a folder");
        let names = ["-nodes", "-keyout", "key.pem", "-subj", "/CN=localhost"];
        if is_version_1 {
            let request = [&["req", "-new", "-newkey"], key, &names, &["-out", "r.pem"]].concat();
            assert!(openssl(&files, &request).await);
            let sign = ["x509", "-req", "-in", "r.pem", "-signkey", "key.pem", "-out", "cert.pem"];
            // Newer ones make version 3 unless they are told.
            let told = [&sign[..], &["-x509v1"]].concat();
            assert!(openssl(&files, &told).await || openssl(&files, &sign).await);
        } else {
            let own = [VERSION_3, &["-newkey"], key, &names, &["-out", "cert.pem"]].concat();
            assert!(openssl(&files, &own).await);
        }
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/program/tls_server.py");
        let mut python = Command::new(python());
        python.arg(script).args(["cert.pem", "key.pem"]).args(server).current_dir(files.path());
        python.stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = python.spawn().expect("Python runs");
        let printed = child.stdout.take().expect("a pipe");
        let port =
            BufReader::new(printed).lines().next_line().await.expect("read").expect("a port");
        Self { files, port, _server: child }
    }

    async fn doctor(&self, trust: &str) -> String {
        let file = self.files.path().join("bridge.toml");
        let text = format!(
            "listeners.default.address = \"127.0.0.1:0\"\n[tenants.acme]\n{trust}\n\
             timeouts.connect = \"20s\"\nbase_urls = \"https://localhost:{}\"\n",
            self.port
        );
        std::fs::write(&file, text).expect("written");
        let mut command = bridge();
        command.arg("doctor").arg("--config").arg(file);
        unwrapped(&run(command).await.1)
    }
}

const PINNED: &str = "tls.pinned_certificate_file = \"cert.pem\"";
const ANYTHING: &str = "tls.insecure_skip_verify = true";
const SIGNED: &str = "tls.ca_file = \"cert.pem\"";
const RSA_1024: &[&str] = &["rsa:1024"];
const RSA_2048: &[&str] = &["rsa:2048"];
const P_256: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

#[tokio::test]
async fn a_pinned_certificate_is_taken_whatever_its_version_and_its_key() {
    for (is_version_1, key, version) in [
        (true, RSA_2048, "1.2"),
        (true, RSA_2048, "1.3"),
        (true, P_256, "1.2"),
        (true, P_256, "1.3"),
        (true, RSA_1024, "1.2"),
        (false, RSA_1024, "1.2"),
    ] {
        let gateway = OldGateway::start(is_version_1, key, &[version]).await;
        for trust in [PINNED, ANYTHING] {
            let printed = gateway.doctor(trust).await;
            assert!(printed.contains("answer: from a gateway"), "{key:?} {version}: {printed}");
        }
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_taken_is_explained_without_the_setting_in_force() {
    let short = "RSA key has only 1024 bits";
    let version_1 = "X.509 version 1";
    let pin = "tls.pinned_sha256 = \"";
    for (is_version_1, key, server, trust, said, never) in [
        (false, RSA_1024, &["1.3"][..], PINNED, [short, "a key of 2048 bits"], "pinned_sha256"),
        (
            true,
            RSA_1024,
            &["1.2 PSS"],
            ANYTHING,
            [short, "a key of 2048 bits"],
            "insecure_skip_verify",
        ),
        (true, RSA_2048, &["1.2"], SIGNED, [version_1, pin], "set tenants.acme.tls.ca_file"),
        (false, P_256, &["1.2", "secp521r1"], PINNED, ["needs the curve P-521", "P-256"], "pinned"),
        (false, P_256, &["1.3", "secp521r1"], PINNED, ["needs the curve P-521", "P-256"], "pinned"),
    ] {
        let gateway = OldGateway::start(is_version_1, key, server).await;
        let printed = gateway.doctor(trust).await;
        let (_, problem) = printed.split_once("  problem ").unwrap_or_else(|| panic!("{printed}"));
        for words in said {
            assert!(problem.contains(words), "{words:?} in: {printed}");
        }
        assert!(!problem.contains(never), "{never:?} in: {printed}");
    }
}
