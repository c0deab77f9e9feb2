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

/// A folder with a certificate and its key. `key` is what `openssl` takes after `-newkey`.
async fn certificate(is_version_1: bool, key: &[&str]) -> TempDir {
    let files = TempDir::new().expect("a folder");
    if key == DSA {
        let make = ["genpkey", "-genparam", "-algorithm", "DSA", "-out", "dsa.pem"];
        let bits = ["-pkeyopt", "dsa_paramgen_bits:1024"];
        assert!(openssl(&files, &[&make[..], &bits].concat()).await);
    }
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
    files
}

/// The exit code of a command for a tenant that trusts its gateway so, and what it printed.
async fn asked(files: &TempDir, port: &str, name: &str, trust: &str) -> (Option<i32>, String) {
    let file = files.path().join("bridge.toml");
    let text = format!(
        "listeners.default.address = \"127.0.0.1:0\"\n[tenants.acme]\n{trust}\n\
         timeouts.connect = \"20s\"\nbase_urls = \"https://localhost:{port}\"\n"
    );
    std::fs::write(&file, text).expect("written");
    let mut command = bridge();
    command.arg(name).arg("--config").arg(file);
    let (code, printed) = run(command).await;
    (code, unwrapped(&printed))
}

impl OldGateway {
    /// `server` is what the server takes after the files.
    async fn start(files: TempDir, server: &[&str]) -> Self {
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
        asked(&self.files, &self.port, "doctor", trust).await.1
    }
}

const PINNED: &str = "tls.pinned_certificate_file = \"cert.pem\"";
const ANYTHING: &str = "tls.insecure_skip_verify = true";
const SIGNED: &str = "tls.ca_file = \"cert.pem\"";
const RSA_1024: &[&str] = &["rsa:1024"];
const RSA_2048: &[&str] = &["rsa:2048"];
const P_256: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P_521: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-521"];
/// Its parameters are in a file that has to be made first.
const DSA: &[&str] = &["dsa:dsa.pem"];
const ED_25519: &[&str] = &["ed25519"];

#[tokio::test]
async fn a_pinned_certificate_is_taken_whatever_its_version_and_its_key() {
    for (is_version_1, key, version) in [
        (true, RSA_2048, "1.2"),
        (true, RSA_2048, "1.3"),
        (true, P_256, "1.2"),
        (true, P_256, "1.3"),
        (true, RSA_1024, "1.2"),
        (false, RSA_1024, "1.2"),
        (false, P_521, "1.3"),
        (false, ED_25519, "1.2"),
        (false, ED_25519, "1.3"),
    ] {
        let gateway = OldGateway::start(certificate(is_version_1, key).await, &[version]).await;
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
        let gateway = OldGateway::start(certificate(is_version_1, key).await, server).await;
        let printed = gateway.doctor(trust).await;
        let (_, problem) = printed.split_once("  problem ").unwrap_or_else(|| panic!("{printed}"));
        for words in said {
            assert!(problem.contains(words), "{words:?} in: {printed}");
        }
        assert!(!problem.contains(never), "{never:?} in: {printed}");
    }
}

/// With these keys, no handshake succeeds, whichever way the certificate is trusted. Each is tried with a
/// server that takes such a certificate, if there is one.
#[tokio::test]
async fn a_pinned_certificate_whose_key_can_never_be_used_is_a_mistake_that_names_the_key() {
    for (key, version, named) in [
        (&["rsa:512"][..], Some("1.2"), "an RSA key of 512 bits"),
        (&["rsa:1008"], Some("1.2"), "an RSA key of 1008 bits"),
        (&["rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"], Some("1.3"), "an RSA-PSS key"),
        (
            &["ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
            Some("1.2"),
            "an ECDSA key on secp256k1",
        ),
        (&["ec", "-pkeyopt", "ec_paramgen_curve:P-224"], Some("1.2"), "an ECDSA key on P-224"),
        (&["ec", "-pkeyopt", "ec_paramgen_curve:P-192"], Some("1.2"), "an ECDSA key on P-192"),
        (
            &["ec", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1"],
            Some("1.2"),
            "an ECDSA key on brainpoolP256r1",
        ),
        (
            &["ec", "-pkeyopt", "ec_paramgen_curve:sect283k1"],
            Some("1.2"),
            "an ECDSA key on another curve",
        ),
        (&["ec", "-pkeyopt", "ec_paramgen_curve:SM2"], None, "an SM2 key"),
        (&["ed448"], Some("1.3"), "an Ed448 key"),
        (DSA, Some("1.2"), "a DSA key"),
    ] {
        let files = certificate(false, key).await;
        let said = format!(
            "the certificate cannot be used: its key is {named}, with which no TLS handshake of the \
             bridge can succeed; ask the gateway's operator for a certificate with an RSA key of 2048 \
             to 8192 bits, or an ECDSA key on P-256 or P-384"
        );
        for command in ["check-config", "doctor"] {
            let (code, printed) = asked(&files, "1", command, PINNED).await;
            assert_eq!(code, Some(2), "{named}: {printed}");
            let at = format!("tenants.acme.tls.pinned_certificate_file: {said}");
            assert!(printed.contains(&at), "{at} in: {printed}");
        }
        let Some(version) = version else { continue };
        let gateway = OldGateway::start(files, &[version]).await;
        // Here the key is known only from the handshake. Most servers with such a key end that before
        // they have sent their certificate.
        let printed = gateway.doctor(ANYTHING).await;
        let (_, problem) = printed.split_once("  problem ").unwrap_or_else(|| panic!("{printed}"));
        let is_sent = key == ["rsa:1008"];
        let expected = if is_sent { format!("tls: {said}") } else { "tls: ".to_owned() };
        assert!(problem.trim_start().starts_with(&expected), "{expected} in: {printed}");
    }
}
