//! Keys of earlier versions: the error says what to do instead.

use ccgateway_bridge::config::{self, Sources};

use crate::support::{Folder, TENANT};

#[test]
fn an_error_about_a_renamed_key_has_the_new_name() {
    for (line, expected) in [
        (
            "server.listen = \"[::1]:1\"",
            "server.listen: has been renamed; give it as listeners.default.address",
        ),
        (
            "server.tls.certificate = \"a\"",
            "server.tls.certificate: has been renamed; give it as \
             listeners.default.tls.certificate_file",
        ),
        (
            "tenants.acme.limits.in_flight = 7",
            "tenants.acme.limits.in_flight: has been renamed; give it as \
             tenants.acme.limits.requests",
        ),
        (
            "tenants.acme.tls.client_key = \"a\"",
            "tenants.acme.tls.client_key: has been renamed; give it as \
             tenants.acme.tls.client_key_file",
        ),
        (
            "server.http2.stream_window = 1",
            "server.http2.stream_window: is no longer a setting; remove it; the bridge chooses the value \
             itself",
        ),
    ] {
        let mistakes = Folder::new().mistakes(format!("{TENANT}{line}\n"));
        assert_eq!(mistakes, [format!("bridge.toml:2  {expected}")]);
    }
}

#[test]
fn every_key_of_a_removed_section_is_reported() {
    let text = format!(
        "{TENANT}[server.tls]\ncertificate = \"a\"\nkey = \"b\"\n[server.http2]\n\
         max_frame_size = 1\nmax_message_size = 1\n"
    );
    let mistakes = Folder::new().mistakes(text);
    let lines: Vec<_> = mistakes.iter().map(|mistake| mistake.split(' ').next()).collect();
    let expected = ["bridge.toml:3", "bridge.toml:4", "bridge.toml:6", "bridge.toml:7"];
    assert_eq!(lines, expected.map(Some));
}

#[test]
fn an_error_about_a_renamed_variable_has_the_variables_new_name() {
    let sources = Sources::from_environment([
        ("CCGW__TENANTS__ACME__BASE_URLS", "https://a"),
        ("CCGW__SERVER__DRAIN__SPREAD", "1s"),
        ("CCGW__SERVER__LISTEN", "[::1]:1"),
    ]);
    let errors = config::load(&sources).expect_err("two mistakes").to_string();
    for expected in
        ["give it as CCGW__SERVER__DRAIN__DELAY", "give it as CCGW__LISTENERS__DEFAULT__ADDRESS"]
    {
        assert!(errors.contains(expected), "{errors}");
    }
}
