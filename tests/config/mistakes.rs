use ccgateway_bridge::config::{self, Place, Sources};
use proptest::prelude::*;

use crate::support::{Folder, TENANT};

/// The second line is wrong, and this is what it says.
#[track_caller]
fn check(line: &str, expected: &str) {
    let mistakes = Folder::new().mistakes(format!("{TENANT}{line}\n"));
    let expected = format!("bridge.toml:2  {expected}");
    assert_eq!(mistakes.len(), 1, "{line}: {mistakes:#?}");
    assert!(mistakes[0].starts_with(&expected), "{line}: {mistakes:#?}");
}

#[test]
fn five_mistakes_are_five_lines() {
    let text = r#"
[listeners.default]
address = "everywhere"
[server]
refelction = true

[tenants.acme]
agent_ids = "500-100"

[tenants.acme.tls]
ca_file = "missing.pem"
"#;
    let folder = Folder::new();
    assert_eq!(
        folder.mistakes(text),
        [
            "bridge.toml  tenants.acme.base_urls: is missing; give https://<host>[:<port>][/<path>] \
             without user name, query or fragment, such as \"https://gateway.example:8043\"",
            "bridge.toml:3  listeners.default.address: \"everywhere\" is not an address to listen on; give an IP \
             address and a port, such as \"[::]:50051\", which takes IPv4 connections too, or \
             \"127.0.0.1:50051\"",
            "bridge.toml:5  server.refelction: is not a known key; did you mean server.reflection?",
            "bridge.toml:8  tenants.acme.agent_ids: \"500-100\" is not a range of agent ids; give \
             \"<lowest>-<highest>\" within 1 and 999999999, such as \"101-59999\"",
            "bridge.toml:11  tenants.acme.tls.ca_file: cannot read \"missing.pem\" (No such file or \
             directory); give the path of a PEM file with the gateway's CA certificate",
        ]
    );
    let errors = config::load(&folder.sources(text)).unwrap_err();
    let text = errors.to_string();
    assert!(text.starts_with("5 mistakes in the configuration:\n  "), "{text}");
    assert_eq!(errors.errors()[1].key, "listeners.default.address");
    assert!(matches!(errors.errors()[1].place, Place::File { line: Some(3), .. }));
}

#[test]
fn errors_about_a_wrong_type_name_the_right_type() {
    for (line, expected) in [
        ("admin.address = 9090", "admin.address: is a number, not text; "),
        ("listeners.a.address = [\"::1:1\"]", "listeners.a.address: is a list, not text; "),
        ("server.reflection = \"yes\"", "server.reflection: is text, not true or false; "),
        ("server.limits.calls = \"10\"", "server.limits.calls: is text, not a whole number; "),
        ("server.limits.calls = 1.5", "server.limits.calls: is a number with a fraction, not"),
        (
            "server.limits.calls = 99999999999999999999",
            "server.limits.calls: is a number beyond 64 bits",
        ),
        ("server.default_deadline = 10", "server.default_deadline: is a number, not a duration; "),
        ("server.default_deadline = 07:32:00", "server.default_deadline: is a date or time, not"),
        ("server.drain = \"20s\"", "server.drain: is text, not a section; "),
        (
            "server.drain.timeout = { s = 1 }",
            "server.drain.timeout: is a section, not a duration; ",
        ),
        ("server = 1", "server: is a number, not a section; "),
        ("[[server]]", "server: is a list, not a section; "),
        ("tenants.b.base_urls = 1", "tenants.b.base_urls: is a number, not a list of texts; "),
        ("tenants.b.base_urls = [1]", "tenants.b.base_urls: is a number, not text; "),
        ("tenants.b = \"https://b\"", "tenants.b: is text, not a section; "),
    ] {
        check(line, expected);
    }
}

#[test]
fn errors_about_values_out_of_range_name_the_range() {
    for (line, expected) in [
        (
            "server.worker_threads = 0",
            "server.worker_threads: 0 is out of range; give a whole number from 1 to 1024",
        ),
        (
            "tenants.acme.breaker.failures = 1001",
            "tenants.acme.breaker.failures: 1001 is out of range; give a whole number from 0 to 1000",
        ),
        ("server.limits.calls = -1", "server.limits.calls: -1 is out of range"),
        (
            "server.limits.message_size = 1023",
            "server.limits.message_size: 1023 is out of range; give a whole number from 1024 to 4194304",
        ),
        (
            "server.connections.requests_per_second = 0",
            "server.connections.requests_per_second: 0 is out of range; give a whole number from 1 to 1000000",
        ),
        (
            "server.connections.resets_per_second = 1000001",
            "server.connections.resets_per_second: 1000001 is out of range; give a whole number from 1 to 1000000",
        ),
        (
            "listeners.a.http2.max_concurrent_streams = 100001",
            "listeners.a.http2.max_concurrent_streams: 100001 is out of range; give a whole number from 1 to 100000",
        ),
        ("server.default_deadline = \"0s\"", "server.default_deadline: \"0s\" is out of range; "),
        ("server.default_deadline = \"2h\"", "server.default_deadline: \"2h\" is out of range; "),
        (
            "server.default_deadline = \"ten\"",
            "server.default_deadline: \"ten\" is not a duration; ",
        ),
        (
            "tenants.acme.registered_ttl = \"25h\"",
            "tenants.acme.registered_ttl: \"25h\" is out of range; ",
        ),
        ("tenants.acme.agent_ids = \"101\"", "tenants.acme.agent_ids: "),
        ("tenants.acme.agent_ids = \"0-5\"", "tenants.acme.agent_ids: "),
        ("tenants.acme.agent_ids = \"1-1000000000\"", "tenants.acme.agent_ids: "),
        (
            "tenants.acme.auth_mode = \"Static\"",
            "tenants.acme.auth_mode: \"Static\" is not one of the allowed words; give one of dynamic, static, none",
        ),
        ("log.filter = \"info,=\"", "log.filter: \"info,=\" is not a log filter"),
        ("log.filter = \"\"", "log.filter: \"\" is not a log filter"),
        (
            "log.format = \"xml\"",
            "log.format: \"xml\" is not one of the allowed words; give one of auto, human, json",
        ),
        (
            "retcodes.0.code = \"INTERNAL\"\nretcodes.0.reason = \"A\"",
            "retcodes.0: \"0\" cannot be overridden; ",
        ),
        (
            "retcodes.100-007 = { code = \"OK\", reason = \"A\" }",
            "retcodes.100-007.code: \"OK\" is not one of the allowed words; give one of CANCELLED, ",
        ),
        (
            "retcodes.100-007 = { code = \"UNAUTHENTICATED\", reason = \"A\" }",
            "retcodes.100-007.code: UNAUTHENTICATED is reserved for the bridge's own rules on who \
             may call; ",
        ),
        (
            "retcodes.100-007 = { code = \"PERMISSION_DENIED\", reason = \"A\" }",
            "retcodes.100-007.code: PERMISSION_DENIED is reserved for the bridge's own rules on who \
             may call; ",
        ),
        (
            "retcodes.100-007 = { code = \"INTERNAL\", reason = \"AGENT_STATE_REFUSED\" }",
            "retcodes.100-007.code: AGENT_STATE_REFUSED is one of the bridge's own reasons, whose \
             code is FAILED_PRECONDITION; give code = \"FAILED_PRECONDITION\", or a reason of your own",
        ),
        (
            "retcodes.100-007 = { code = \"UNKNOWN\", reason = \"GATEWAY_NO_ANSWER\" }",
            "retcodes.100-007.reason: GATEWAY_NO_ANSWER is one of the bridge's own reasons, and never \
             used for a refusal; give another reason of docs/calling/errors.md, or a reason of your own",
        ),
        (
            "retcodes.100-007 = { code = \"INTERNAL\", reason = \"a\" }",
            "retcodes.100-007.reason: \"a\" is not a valid reason; ",
        ),
    ] {
        check(line, expected);
    }
}

#[test]
fn values_that_contradict_each_other_are_mistakes() {
    for (line, expected) in [
        (
            "admin.address = \"0.0.0.0:50051\"",
            "admin.address: listener default is at 127.0.0.1:50051, and admin at 0.0.0.0:50051; ",
        ),
        (
            "listeners.a.address = \"127.0.0.1:9090\"",
            "listeners.a.address: listener a is at 127.0.0.1:9090, and admin at [::]:9090; ",
        ),
        (
            "listeners.a.tls.key_file = \"a.pem\"",
            "listeners.a.tls.key_file: has no effect without certificate_file; ",
        ),
        (
            "tenants.acme.tls.client_certificate_file = \"a.pem\"",
            "tenants.acme.tls.client_certificate_file: has no effect without client_key_file; ",
        ),
        (
            "tenants.acme.limits.calls = 10",
            "tenants.acme.limits.calls: requests 64 is above calls 10; ",
        ),
        (
            "tenants.acme.breaker.pause = \"11s\"",
            "tenants.acme.breaker.pause: pause is above pause_max; ",
        ),
    ] {
        let mistakes = Folder::new().mistakes(format!("{TENANT}{line}\n"));
        let expected = format!("bridge.toml:2  {expected}");
        assert!(mistakes.iter().any(|line| line.starts_with(&expected)), "{mistakes:#?}");
    }
}

#[test]
fn errors_about_unknown_keys_suggest_the_right_key() {
    for (line, expected) in [
        ("servr.reflection = true", "servr: is not a known key; did you mean server?"),
        ("admin.adress = \"\"", "admin.adress: is not a known key; did you mean admin.address?"),
        (
            "listeners.a.adress = \"\"",
            "listeners.a.adress: is not a known key; did you mean listeners.a.address?",
        ),
        ("server.limit.x = 1", "server.limit: is not a known key; did you mean server.limits?"),
        ("log.colour = true", "log.colour: is not a known key; known here: filter, format"),
        (
            "tenants.acme.base_url = \"\"",
            "tenants.acme.base_url: is not a known key; did you mean tenants.acme.base_urls?",
        ),
        (
            "tenants.acme.ca_file = \"\"",
            "tenants.acme.ca_file: is not a known key; did you mean tenants.acme.tls.ca_file?",
        ),
        ("tenants.acme.\"a.b\" = 1", "tenants.acme.\"a.b\": is not a known key; "),
    ] {
        check(line, expected);
    }
    let mistakes = Folder::new().mistakes(format!("filter = \"\"\n{TENANT}"));
    assert_eq!(mistakes, ["bridge.toml:1  filter: is not a known key; did you mean log.filter?"]);
}

#[test]
fn a_syntax_error_is_one_mistake_with_its_line_and_column() {
    let mistakes = Folder::new().mistakes(format!("{TENANT}[admin]\naddress = oops\n"));
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    let expected = "bridge.toml:3  is not valid TOML from column 11 on (";
    assert!(mistakes[0].starts_with(expected), "{mistakes:#?}");
}

#[test]
fn a_file_that_cannot_be_read_is_one_mistake() {
    let folder = Folder::new();
    let absent = folder.write("here.toml", "").with_file_name("absent.toml");
    let mistakes = folder.mistakes_of(&Sources::default().with_file(absent));
    assert_eq!(
        mistakes,
        ["absent.toml  cannot read \"absent.toml\" (No such file or directory); \
          give the path of the bridge's TOML file"]
    );
    let mistakes = folder.mistakes(b"a = \"\xff\"");
    assert!(mistakes[0].starts_with("bridge.toml  is not UTF-8 text"), "{mistakes:#?}");
}

#[test]
fn no_tenant_is_a_mistake_that_shows_the_shortest_configuration() {
    let text = config::load(&Sources::default()).expect_err("no tenant").to_string();
    let expected =
        "1 mistake in the configuration:\n  configuration  tenants: no tenant is configured";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("[tenants.acme]\n      base_urls = [\"https://"), "{text}");
    assert!(text.contains("CCGW__TENANTS__ACME__BASE_URLS=https://"), "{text}");

    let mistakes = Folder::new().mistakes("[tenants]\n");
    assert!(mistakes[0].starts_with("bridge.toml  tenants: no tenant"), "{mistakes:#?}");
}

#[test]
fn depth_is_bounded() {
    let folder = Folder::new();
    for deep in [
        format!("{}x = 1", "a.".repeat(100_000)),
        format!("[{}x]", "a.".repeat(100_000)),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a = ".repeat(100_000)),
    ] {
        assert!(config::load(&folder.sources(deep)).is_err());
    }
    let variable = format!("CCGW__{}", "A__".repeat(100_000));
    let sources = Sources::from_environment([(variable, "")]);
    assert!(config::load(&sources).is_err());
}

#[test]
fn long_values_and_many_mistakes_are_cut() {
    let long = "x".repeat(10_000);
    let mistakes = Folder::new().mistakes(format!("{TENANT}log.format = \"{long}\"\n"));
    assert!(mistakes[0].len() < 300, "{}", mistakes[0].len());

    let many: Vec<_> = (0..300).map(|n| format!("zzzz{n} = 1\n")).collect();
    let many = many.concat();
    let mistakes = Folder::new().mistakes(format!("{many}{TENANT}"));
    assert_eq!(mistakes.len(), 101);
    assert_eq!(mistakes[100], "… and 200 more");
}

proptest! {
    #[test]
    fn any_text_is_accepted_or_reported(text in "\\PC{0,200}") {
        let _ = config::load(&Folder::new().sources(text));
    }

    #[test]
    fn any_value_of_any_key_is_accepted_or_reported(
        key in "(listeners|issuers|callers|admin|server|log|gateway|tenants|retcodes)(\\.[a-z0-9_\"-]{1,8}){0,3}",
        value in "(\"[^\"\\\\\n]{0,40}\"|-?[0-9]{1,30}|\\[[0-9\", ]{0,9}\\]|true|[0-9.e-]{1,9}|\\{\\})",
        variable in "CCGW__[A-Z0-9_.\"*]{0,30}",
    ) {
        let folder = Folder::new();
        let path = folder.write("bridge.toml", format!("{TENANT}{key} = {value}\n"));
        let sources = Sources::from_environment([(variable, value)]).with_file(path);
        if let Err(errors) = config::load(&sources) {
            prop_assert!(!errors.errors().is_empty());
        }
    }
}
