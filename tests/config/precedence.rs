use ccgateway_bridge::{
    config::{self, Config, Sources},
    retcode::Retcode,
};

use crate::support::{Folder, TENANT};

const ACME: (&str, &str) = ("CCGW__TENANTS__ACME__BASE_URLS", "https://a:1, https://b");

/// What `--listen` sets.
const LISTEN: &str = "listeners.*.address";

#[track_caller]
fn load(sources: &Sources) -> Config {
    config::load(sources).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let folder = Folder::new();
    let path =
        folder.write("bridge.toml", format!("{TENANT}[listeners.a]\naddress = \"[::1]:1\"\n"));
    let file = Sources::default().with_file(&path);
    let variable = [("CCGW__LISTENERS__A__ADDRESS", "[::1]:2")];
    let environment = Sources::from_environment(variable).with_file(&path);
    let flag = environment.clone().with_flag("--listen", LISTEN, "[::1]:3");

    for (sources, port) in [(file, 1), (environment, 2), (flag, 3)] {
        assert_eq!(load(&sources).listeners["a"].address.port(), port);
    }
}

#[test]
fn the_environment_alone_is_enough() {
    let config = load(&Sources::from_environment([
        ACME,
        ("CCGW__SERVER__REFLECTION", "false"),
        ("CCGW__SERVER__LIMITS__CALLS", "1_000\n"),
        ("CCGW__SERVER__DRAIN__DELAY", "0s"),
        ("CCGW__RETCODES__100-007__CODE", "INTERNAL"),
        ("CCGW__RETCODES__100-007__REASON", "BROKEN"),
        ("CCGW_CONFIG", "not ours"),
        ("PATH", "/bin"),
    ]));
    let tenant = &config.tenants["acme"];
    assert_eq!(tenant.base_urls[0], "https://a:1/agentgateway/resource");
    assert_eq!(tenant.base_urls[1], "https://b:8043/agentgateway/resource");
    assert!(!config.server.reflection);
    assert_eq!(config.server.limits.calls.get(), 1000);
    assert!(config.server.drain.delay.is_zero());
    let retcode = Retcode::refusal("100-007").expect("a refusal");
    assert_eq!(config.retcodes.get(&retcode).expect("overridden").code, 13);
}

#[test]
fn mistakes_outside_the_file_name_the_variable_or_the_flag() {
    let sources = Sources::from_environment([
        ACME,
        ("CCGW__LOG__FORMAT", "xml"),
        ("CCGW__FILTER", "info"),
        ("CCGW__SERVER__LIMITS__CALLS", "many"),
        ("CCGW__SERVER__REFLECTION", "yes"),
        ("CCGW__ADMIN__ADRESS", "[::1]:1"),
        ("CCGW__SERVER__DRAIN", "on"),
        ("CCGW__SERVR__REFLECTION", "true"),
        ("CCGW__SERVR__LIMITS__CALLS", "1"),
        ("CCGW____", ""),
    ])
    .with_flag("--listen", LISTEN, "here");
    let mistakes = Folder::new().mistakes_of(&sources);
    let expected = [
        "environment CCGW__ADMIN__ADRESS  admin.adress: is not a known key; did you mean CCGW__ADMIN__ADDRESS?",
        "environment CCGW__FILTER  filter: is not a known key; did you mean CCGW__LOG__FILTER?",
        "environment CCGW__LOG__FORMAT  log.format: \"xml\" is not one of the allowed words; ",
        "environment CCGW__SERVER__DRAIN  server.drain: is text, not a section; ",
        "environment CCGW__SERVER__LIMITS__CALLS  server.limits.calls: \"many\" is not a whole number; ",
        "environment CCGW__SERVER__REFLECTION  server.reflection: \"yes\" is neither true nor false; ",
        "environment CCGW__SERVR__LIMITS__CALLS  servr.limits.calls: is not a known key; did you mean CCGW__SERVER__LIMITS__CALLS?",
        "environment CCGW__SERVR__REFLECTION  servr.reflection: is not a known key; did you mean CCGW__SERVER__REFLECTION?",
        "environment CCGW____  \"\".\"\": is not a known key; the example file names every key",
        "--listen  listeners.default.address: \"here\" is not an address to listen on; ",
    ];
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
    for (mistake, expected) in mistakes.iter().zip(expected) {
        assert!(mistake.starts_with(expected), "{mistake}\n{expected}");
    }
}

#[test]
fn a_tenant_of_the_environment_that_lacks_a_key_names_its_variable() {
    let sources = Sources::from_environment([("CCGW__TENANTS__ACME__AUTH_MODE", "static")]);
    let mistakes = Folder::new().mistakes_of(&sources);
    let expected = "environment CCGW__TENANTS__ACME__AUTH_MODE  tenants.acme.base_urls: is missing";
    assert!(mistakes[0].starts_with(expected), "{mistakes:#?}");
}
