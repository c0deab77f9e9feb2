use std::time::Duration;

use ccgateway_bridge::config::{self, AuthMode, Edition, PollFor, Sources, Trust};

use crate::support::{Folder, KEY, TENANT, load};

#[track_caller]
fn taken(url: &str, expected: &str) {
    let config = load(&format!("tenants.a.base_urls = \"{url}\""));
    assert_eq!(config.tenants["a"].base_urls[0].to_string(), expected, "{url}");
}

#[test]
fn addresses_get_the_gateways_port_and_path() {
    taken("https://gw", "https://gw:8043/agentgateway/resource");
    taken("https://GW.Example/", "https://gw.example:8043/agentgateway/resource");
    taken("https://gw:443/prefix/", "https://gw:443/prefix");
    taken("http://127.0.0.1:80/a/b//", "http://127.0.0.1:80/a/b");
    taken("https://[2001:db8::1]", "https://[2001:db8::1]:8043/agentgateway/resource");
}

#[test]
fn impossible_addresses_of_gateways_are_mistakes() {
    for url in [
        "",
        "gw",
        "gw:8043",
        "/path",
        "ftp://gw",
        "https://",
        "https://gw:0",
        "https://gw:",
        "https://gw:65536",
        "https://gw:x",
        "https://gw?a=b",
        "https://gw/#a",
        "https://g w",
        "https://*",
        "https://[::1",
    ] {
        let mistakes = Folder::new().mistakes(format!("tenants.a.base_urls = [\"{url}\"]"));
        let expected = format!(
            "bridge.toml:1  tenants.a.base_urls: \"{url}\" is not an address of a gateway; give https://"
        );
        assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
        assert!(mistakes[0].starts_with(&expected), "{mistakes:#?}");
    }
}

#[test]
fn every_bad_address_of_a_list_has_its_own_error() {
    let text = "tenants.a.base_urls = [\n\"https://gw\",\n\"x\",\n\"y\"]";
    let mistakes = Folder::new().mistakes(text);
    assert!(mistakes[0].starts_with("bridge.toml:3  tenants.a.base_urls: \"x\""), "{mistakes:#?}");
    assert!(mistakes[1].starts_with("bridge.toml:4  tenants.a.base_urls: \"y\""), "{mistakes:#?}");
}

#[test]
fn the_same_address_twice_is_a_mistake() {
    let text = "tenants.a.base_urls = [\"https://gw\", \"https://GW:8043/\"]";
    let mistakes = Folder::new().mistakes(text);
    let expected =
        "bridge.toml:1  tenants.a.base_urls: names https://gw:8043/agentgateway/resource twice";
    assert!(mistakes[0].starts_with(expected), "{mistakes:#?}");
}

#[test]
fn a_password_in_an_address_is_not_repeated() {
    let mistakes = Folder::new().mistakes("tenants.a.base_urls = [\"https://u:canary@gw\"]");
    assert!(mistakes[0].contains("has an address with a user name"), "{mistakes:#?}");
    assert!(!mistakes[0].contains("canary"), "{mistakes:#?}");
}

#[test]
fn invalid_tenant_ids_are_mistakes() {
    let mistakes = Folder::new().mistakes("[tenants.Acme]\nbase_urls = \"https://gw\"");
    let expected =
        "bridge.toml:1  tenants.Acme: \"Acme\" is not a valid tenant id; it must be 1 to 63";
    assert!(mistakes[0].starts_with(expected), "{mistakes:#?}");
}

#[test]
fn tenant_ids_that_do_not_fit_into_variables_are_mistakes() {
    for id in ["a__b", "a___", "a_", "a__"] {
        let mistakes = Folder::new().mistakes(format!("tenants.{id}.base_urls = \"https://gw\""));
        let expected = format!(
            "bridge.toml:1  tenants.{id}: \"{id}\" is not a valid tenant id; it must not contain \"__\" \
             or end with \"_\", "
        );
        assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
        assert!(mistakes[0].starts_with(&expected), "{mistakes:#?}");
    }
    for id in ["a_b", "a-", "a.b", "0"] {
        // Each of them can be set by a variable.
        let name = format!("CCGW__TENANTS__{}__BASE_URLS", id.to_uppercase());
        let config = config::load(&Sources::from_environment([(name, "https://gw")]));
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        assert!(config.tenants.contains_key(id), "{id}");
    }
}

#[test]
fn registered_guids_live_as_long_as_the_gateway_keeps_them() {
    let dynamic = load(TENANT);
    assert_eq!(dynamic.tenants["acme"].registered_ttl, Duration::from_secs(120));
    let fixed = load(&format!("{TENANT}tenants.acme.auth_mode = \"static\""));
    assert_eq!(fixed.tenants["acme"].auth_mode, AuthMode::Static);
    assert_eq!(fixed.tenants["acme"].registered_ttl, Duration::from_secs(12 * 60 * 60));
}

const POLL_ALL: &str = "tenants.acme.keep.poll = \"all\"\n";

#[test]
fn replicas_poll_for_each_agent() {
    assert_eq!(load(TENANT).tenants["acme"].keep.poll, PollFor::Each);
    let all = load(&format!("{TENANT}{POLL_ALL}"));
    assert_eq!(all.tenants["acme"].keep.poll, PollFor::All);
    let folder = Folder::new();
    folder.write("a.key", KEY);
    let store = "[store]\nurls = \"redis://localhost\"\nencryption_key_files = \"a.key\"\n";
    let mistakes = folder.mistakes(format!("{TENANT}{POLL_ALL}{store}"));
    let expected =
        "bridge.toml:2  tenants.acme.keep.poll: is \"all\", and store.urls is for several replicas";
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    assert!(mistakes[0].starts_with(expected), "{mistakes:#?}");
}

#[test]
fn polls_that_may_take_another_tenants_events_are_warned_of() {
    let other = |url: &str| {
        let other = format!("tenants.other.base_urls = \"{url}\"\n");
        let warnings = load(&format!("{TENANT}{POLL_ALL}{other}")).warnings();
        warnings.into_iter().filter(|warning| warning.contains("keep.poll")).collect::<Vec<_>>()
    };
    assert_eq!(other("https://elsewhere.example"), Vec::<String>::new());
    let warned = other("https://gateway.example");
    assert_eq!(warned.len(), 1, "{warned:#?}");
    let expected = "tenants.acme.keep.poll is \"all\", and tenants.other has the same gateway, gateway.example:8043";
    assert!(warned[0].starts_with(expected), "{warned:#?}");
}

#[test]
fn pins_are_taken_as_openssl_prints_them() {
    let plain = "0f".repeat(32);
    let colons = vec!["0F"; 32].join(":");
    let config =
        load(&format!("{TENANT}tenants.acme.tls.pinned_sha256 = [\"{plain}\", \"{colons}\"]"));
    assert_eq!(config.tenants["acme"].tls.trust, Trust::Pinned(vec![[0x0f; 32]]));

    for bad in
        ["0f".repeat(31), "0f".repeat(33), "0g".repeat(32), "é".repeat(32), format!("{plain}0")]
    {
        let text = format!("{TENANT}tenants.acme.tls.pinned_sha256 = \"{bad}\"");
        let mistakes = Folder::new().mistakes(text);
        assert!(mistakes[0].contains("is not a SHA-256 hash; give 64"), "{mistakes:#?}");
    }
}

#[test]
fn ways_to_check_a_certificate_exclude_each_other() {
    let pin = format!("pinned_sha256 = \"{}\"", "0f".repeat(32));
    let text = format!("{TENANT}[tenants.acme.tls]\n{pin}\ninsecure_skip_verify = true\n");
    let mistakes = Folder::new().mistakes(text);
    let expected =
        "bridge.toml:4  tenants.acme.tls.insecure_skip_verify: contradicts pinned_sha256; ";
    assert!(mistakes[0].starts_with(expected), "{mistakes:#?}");

    let text = format!("{TENANT}[tenants.acme.tls]\n{pin}\ninsecure_skip_verify = false\n");
    assert!(matches!(load(&text).tenants["acme"].tls.trust, Trust::Pinned(_)));
}

#[test]
fn unsafe_settings_are_warned_of() {
    let warnings = load(&format!("{TENANT}listeners.default.address = \"127.0.0.1:1\"")).warnings();
    assert_eq!(warnings, [""; 0]);

    let text = "tenants.a.base_urls = \"http://gw\"\ntenants.a.tls.insecure_skip_verify = true\n\
                listeners.default.allow_anonymous = true";
    let warnings = load(text).warnings();
    for (warning, expected) in warnings.iter().zip([
        "listeners.default.address is [::]:50051 without [listeners.default.tls]",
        "listeners.default.allow_anonymous is true: everybody who reaches [::]:50051 may call ",
        "tenant a: tenants.a.base_urls has http://gw:8043/agentgateway/resource: ",
        "tenant a: tenants.a.tls.insecure_skip_verify is true: ANYBODY",
    ]) {
        assert!(warning.starts_with(expected), "{warnings:#?}");
    }
    assert_eq!(warnings.len(), 4, "{warnings:#?}");
}

#[test]
fn the_default_deadline_leaves_the_time_for_a_sign_in() {
    for (lines, seconds, warned) in [
        ("", 30, false),
        // Each of the two requests may need a connection.
        ("tenants.acme.timeouts.sign_in = \"1m\"", 72, false),
        ("tenants.acme.timeouts = { sign_in = \"1m\", request = \"2m\" }", 184, false),
        ("tenants.acme.timeouts = { sign_in = \"1m\", connect = \"10s\" }", 88, false),
        // And so may the reset of the agent's skills.
        (
            "tenants.acme.timeouts.sign_in = \"1m\"\ntenants.acme.reset_skills_after_sign_in = true",
            82,
            false,
        ),
        ("server.default_deadline = \"17s\"", 17, false),
        ("server.default_deadline = \"16999ms\"", 16, true),
        ("server.default_deadline = \"1m\"\ntenants.acme.timeouts.sign_in = \"61s\"", 60, true),
    ] {
        let text = format!("{TENANT}listeners.default.address = \"127.0.0.1:1\"\n{lines}");
        let config = load(&text);
        assert_eq!(
            config.server.default_deadline.unwrap_or(config.server.derived_deadline).as_secs(),
            seconds,
            "{lines}"
        );
        let warnings = config.warnings();
        assert_eq!(!warnings.is_empty(), warned, "{warnings:#?}");
    }
    let text = format!(
        "{TENANT}listeners.default.address = \"127.0.0.1:1\"\nserver.default_deadline = \"14s\""
    );
    assert_eq!(
        load(&text).warnings(),
        ["server.default_deadline is 14s, and a sign-in for tenants.acme may take 17s \
             (timeouts.connect + timeouts.sign_in): a call without a deadline may end before its \
             agent is signed in; give at least 27s, or leave default_deadline out"]
    );
}

#[test]
fn limits_that_cannot_be_reached_are_warned_of() {
    for (limits, expected) in [
        ("", None),
        (
            "server.limits.calls = 100",
            Some(
                "server.limits.calls is 100, but limits.calls of all tenants add up to 4096: each \
                 tenant gets an even part of the server's places, so a can have 50 calls at once and \
                 not 2048; raise server.limits.calls to 4096, or lower limits.calls",
            ),
        ),
        (
            "server.limits.calls = 100\ntenants.a.limits = { calls = 10, requests = 10 }\n\
          tenants.b.limits = { calls = 90 }",
            None,
        ),
        (
            "gateway.host_requests = 32",
            Some(
                "tenants.a.limits.requests is 64, but gateway.host_requests allows only 32 to each \
                 gateway host; raise gateway.host_requests, or lower limits.requests",
            ),
        ),
    ] {
        let text = format!(
            "listeners.default.address = \"127.0.0.1:1\"\ntenants.a.base_urls = \"https://a\"\n\
             tenants.b.base_urls = \"https://b\"\n{limits}"
        );
        let warnings = load(&text).warnings();
        assert_eq!(warnings, expected.into_iter().collect::<Vec<_>>(), "{limits}");
    }
}

#[test]
fn fewer_places_than_tenants_are_refused() {
    let text = "server.limits.calls = 2\n\
        tenants.a.base_urls = [\"https://a.example\"]\n\
        tenants.b.base_urls = [\"https://b.example\"]\n";
    load(text);
    let three = format!("{text}tenants.c.base_urls = [\"https://c.example\"]\n");
    let [mistake] = &Folder::new().mistakes(&three)[..] else { panic!("one mistake") };
    assert_eq!(
        mistake,
        "bridge.toml:1  server.limits.calls: 2 places are fewer than the 3 tenants, which need one each; \
         give at least 3"
    );
}

#[test]
fn an_edition_says_which_agents_there_are_unless_the_operator_does() {
    for (lines, edition, ids) in [
        ("", Edition::V2023, 101..=59_999),
        ("tenants.acme.edition = \"2014\"", Edition::V2014, 1..=19_999),
        ("tenants.acme.edition = \"2023-09\"", Edition::V2023, 101..=59_999),
        ("tenants.acme.edition = \"2025-11\"", Edition::V2025, 101..=999_999),
        (
            "tenants.acme = { edition = \"2014\", agent_ids = \"5-7\", base_urls = \"https://gw\" }",
            Edition::V2014,
            5..=7,
        ),
    ] {
        let tenant = if lines.contains("base_urls") { "" } else { TENANT };
        let config = load(&format!("{tenant}{lines}\n"));
        let tenant = &config.tenants["acme"];
        assert_eq!((tenant.edition, &tenant.agent_ids), (edition, &ids), "{lines}");
    }
    let mistakes = Folder::new().mistakes(format!("{TENANT}tenants.acme.edition = \"2024\"\n"));
    assert_eq!(
        mistakes,
        [
            "bridge.toml:2  tenants.acme.edition: \"2024\" is not one of the allowed words; give one of 2014, \
          2023-09, 2025-11"
        ]
    );
}
