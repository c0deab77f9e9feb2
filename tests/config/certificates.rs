use std::{fs, os::unix::fs::PermissionsExt as _};

use ccgateway_bridge::config::{self, Trust};

use crate::support::{Folder, TENANT};

/// A certificate and its key, as PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["gateway.example".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn folder() -> Folder {
    let folder = Folder::new();
    let (pem, key) = certificate();
    folder.write("one.pem", &pem);
    folder.write("one.key", &key);
    folder.write("both.pem", format!("{key}{pem}"));
    folder.write("other.key", certificate().1);
    folder.write("cut.pem", &pem[..pem.len() / 2]);
    folder.write("empty.pem", "");
    folder.write("rubbish.pem", "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n");
    folder
}

#[test]
fn certificates_are_read_and_belong_to_their_keys() {
    let text = format!(
        "{TENANT}[listeners.default.tls]\ncertificate_file = \"one.pem\"\n\
         key_file = \"one.key\"\n[tenants.acme.tls]\n\
         ca_file = \"one.pem\"\nclient_certificate_file = \"both.pem\"\nclient_key_file = \"both.pem\"\n"
    );
    let config = config::load(&folder().sources(text)).unwrap_or_else(|errors| panic!("{errors}"));
    let tls = config.listeners["default"].tls.as_ref();
    assert_eq!(tls.map(|tls| tls.identity.chain.len()), Some(1));
    assert!(tls.is_some_and(|tls| tls.client_roots.is_none()));
    let tls = &config.tenants["acme"].tls;
    assert!(matches!(&tls.trust, Trust::Roots(roots) if roots.len() == 1));
    assert!(tls.client.is_some());
}

#[test]
fn a_pinned_certificate_is_pinned_by_its_hash() {
    let folder = folder();
    let pin = "ab".repeat(32);
    let text = format!(
        "{TENANT}[tenants.acme.tls]\npinned_certificate_file = \"one.pem\"\npinned_sha256 = \"{pin}\""
    );
    let config = config::load(&folder.sources(text)).unwrap_or_else(|errors| panic!("{errors}"));
    let Trust::Pinned(pins) = &config.tenants["acme"].tls.trust else {
        panic!("not pinned");
    };
    assert_eq!(pins.len(), 2);
    assert!(pins.contains(&[0xab; 32]));
}

#[test]
fn a_byte_order_mark_in_front_of_a_file_does_not_matter() {
    let folder = Folder::new();
    let (pem, key) = certificate();
    for (name, content) in [("one.pem", pem), ("one.key", key)] {
        folder.write(name, format!("\u{feff}{content}"));
    }
    folder.write("agents.toml", "\u{feff}[agents.1001]\npassword = \"secret\"\n");
    let text = format!(
        "\u{feff}{TENANT}tenants.acme.credentials_file = \"agents.toml\"\n\
         tenants.acme.tls.ca_file = \"one.pem\"\n[listeners.default.tls]\n\
         certificate_file = \"one.pem\"\nkey_file = \"one.key\"\n"
    );
    let config = config::load(&folder.sources(text)).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.listeners["default"].tls.is_some());
    assert_eq!(config.tenants["acme"].credentials.as_ref().map(|c| c.agents.len()), Some(1));
}

#[test]
fn private_keys_that_others_can_read_are_warned_of() {
    let folder = folder();
    let text = format!(
        "{TENANT}[listeners.default]\naddress = \"127.0.0.1:1\"\n\
         tls = {{ certificate_file = \"one.pem\", key_file = \"one.key\" }}\n[tenants.acme.tls]\n\
         client_certificate_file = \"one.pem\"\nclient_key_file = \"one.key\"\n"
    );
    let sources = folder.sources(text);
    for (mode, expected) in [(0o600, 0), (0o644, 2)] {
        let key = folder.path("one.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let config = config::load(&sources).unwrap_or_else(|errors| panic!("{errors}"));
        let warnings = config.warnings();
        assert_eq!(warnings.len(), expected, "{warnings:#?}");
        for (warning, key) in warnings
            .iter()
            .zip(["listeners.default.tls.key_file", "tenants.acme.tls.client_key_file"])
        {
            assert!(
                warning.starts_with(&format!("{key}: others on this machine can read")),
                "{warning}"
            );
        }
    }
}

#[test]
fn a_pinned_certificate_with_a_short_key_is_warned_of() {
    let folder = Folder::new();
    // The bridge's libraries make no such key.
    folder.write("short.pem", include_str!("rsa_1024.pem"));
    let text = format!(
        "{TENANT}listeners.default.address = \"127.0.0.1:1\"\n\
         tenants.acme.tls.pinned_certificate_file = \"short.pem\"\n"
    );
    let config = config::load(&folder.sources(text)).unwrap_or_else(|errors| panic!("{errors}"));
    let warnings = config.warnings();
    let expected = "tenants.acme.tls.pinned_certificate_file: the certificate has an RSA key of only 1024 bits";
    assert!(warnings.len() == 1 && warnings[0].starts_with(expected), "{warnings:#?}");
}

#[test]
fn files_with_other_content_are_mistakes() {
    let folder = folder();
    for (line, expected) in [
        ("ca_file = \"empty.pem\"", "ca_file: \"empty.pem\" holds no certificate; "),
        ("ca_file = \"one.key\"", "ca_file: \"one.key\" holds no certificate; "),
        ("ca_file = \"cut.pem\"", "ca_file: \"cut.pem\" is not valid PEM; "),
        (
            "ca_file = \"rubbish.pem\"",
            "ca_file: certificate 1 in the file is not an X.509 v3 certificate; ",
        ),
        ("ca_file = \".\"", "ca_file: cannot read \".\" (Is a directory); "),
        ("ca_file = \"\"", "ca_file: is empty; "),
        ("ca_file = \"-----BEGIN\"", "ca_file: holds the content of a file; "),
        (
            "client_certificate_file = \"one.pem\"\nclient_key_file = \"one.pem\"",
            "client_key_file: \"one.pem\" holds no usable private key; ",
        ),
        (
            "client_certificate_file = \"one.pem\"\nclient_key_file = \"other.key\"",
            "client_key_file: does not belong to the certificate; ",
        ),
        (
            "client_certificate_file = \"rubbish.pem\"\nclient_key_file = \"one.key\"",
            "client_key_file: goes with a certificate that cannot be read; ",
        ),
        (
            "pinned_certificate_file = \"rubbish.pem\"",
            "pinned_certificate_file: the certificate cannot be used: its public key cannot be found",
        ),
        (
            "pinned_certificate_file = \"one.pem\"\nca_file = \"one.pem\"",
            "pinned_certificate_file: contradicts ca_file; ",
        ),
    ] {
        let mistakes = folder.mistakes(format!("{TENANT}[tenants.acme.tls]\n{line}\n"));
        assert_eq!(mistakes.len(), 1, "{line} {mistakes:#?}");
        let expected = format!("  tenants.acme.tls.{expected}");
        assert!(mistakes[0].contains(&expected), "{line} {mistakes:#?}");
    }
}

#[test]
fn callers_are_asked_for_certificates_where_a_listener_has_their_ca() {
    const RULE: &str = "[callers.a]\nprincipals = [\"*\"]\ntenants = [\"*\"]\nrights = [\"*\"]\n";
    let load = |lines: &str| {
        let text = format!(
            "{TENANT}[listeners.default.tls]\ncertificate_file = \"one.pem\"\nkey_file = \"one.key\"\n\
             client_ca_file = \"one.pem\"\n{lines}\n{RULE}"
        );
        config::load(&folder().sources(text)).unwrap_or_else(|errors| panic!("{errors}"))
    };
    for (lines, is_optional) in [
        ("", false),
        ("client_certificates = \"required\"", false),
        ("client_certificates = \"optional\"", true),
    ] {
        let config = load(lines);
        let listener = &config.listeners["default"];
        let tls = listener.tls.as_ref().unwrap();
        assert_eq!(tls.client_roots.as_ref().map(Vec::len), Some(1), "{lines}");
        assert_eq!(tls.is_client_optional, is_optional, "{lines}");
        assert!(listener.identifies() && !listener.allows_anonymous(), "{lines}");
        assert_eq!(listener.address.to_string(), "[::]:50051", "{lines}");
    }
}

#[test]
fn what_says_nothing_about_callers_certificates_is_a_mistake() {
    let server = "certificate_file = \"one.pem\"\nkey_file = \"one.key\"";
    for (lines, expected) in [
        (
            format!("{server}\nclient_certificates = \"optional\""),
            "bridge.toml:5  listeners.default.tls.client_certificates: has no effect without \
             client_ca_file; give the CA certificate of callers' certificates, or remove this key",
        ),
        (
            "client_ca_file = \"one.pem\"".to_owned(),
            "bridge.toml:3  listeners.default.tls.client_ca_file: has no effect without TLS; give \
             certificate_file and key_file too",
        ),
        (
            format!("{server}\nclient_ca_file = \"one.pem\"\nclient_certificates = \"maybe\""),
            "bridge.toml:6  listeners.default.tls.client_certificates: \"maybe\" is not one of the \
             allowed words; give one of required, optional",
        ),
        (
            format!("{server}\nclient_ca_file = \"one.key\""),
            "bridge.toml:5  listeners.default.tls.client_ca_file: \"one.key\" holds no certificate; ",
        ),
    ] {
        let rule = "[callers.a]\nprincipals = [\"*\"]\ntenants = [\"*\"]\nrights = [\"*\"]\n";
        let mistakes =
            folder().mistakes(format!("{TENANT}[listeners.default.tls]\n{lines}\n{rule}"));
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(expected), "{mistakes:#?}");
    }
}
