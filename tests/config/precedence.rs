use ccgateway_bridge::{
    config::{self, Config, Sources},
    retcode::Retcode,
};

use crate::support::{Folder, TENANT};

const ACME: (&str, &str) = ("CCGW__TENANTS__ACME__BASE_URLS", "https://a:1, https://b");

#[track_caller]
fn load(sources: &Sources) -> Config {
    config::load(sources).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let folder = Folder::new();
    let path = folder.write("bridge.toml", format!("{TENANT}[server]\nlisten = \"[::1]:1\"\n"));
    let file = Sources::default().with_file(&path);
    let variable = [("CCGW__SERVER__LISTEN", "[::1]:2")];
    let environment = Sources::from_environment(variable).with_file(&path);
    let flag = environment.clone().with_flag("--listen", "server.listen", "[::1]:3");

    for (sources, port) in [(file, 1), (environment, 2), (flag, 3)] {
        assert_eq!(load(&sources).server.listen.port(), port);
    }
}

#[test]
fn the_environment_alone_is_enough() {
    let config = load(&Sources::from_environment([
        ACME,
        ("CCGW__SERVER__REFLECTION", "false"),
        ("CCGW__SERVER__CALLS_MAX", "1_000\n"),
        ("CCGW__SERVER__DRAIN__SPREAD", "0s"),
        ("CCGW__RETCODES__100-007__CODE", "INTERNAL"),
        ("CCGW__RETCODES__100-007__REASON", "BROKEN"),
        ("CCGW_CONFIG", "not ours"),
        ("PATH", "/bin"),
    ]));
    let tenant = &config.tenants["acme"];
    assert_eq!(tenant.base_urls[0], "https://a:1/agentgateway/resource");
    assert_eq!(tenant.base_urls[1], "https://b:8043/agentgateway/resource");
    assert!(!config.server.reflection);
    assert_eq!(config.server.calls_max.get(), 1000);
    assert!(config.server.drain.spread.is_zero());
    let retcode = Retcode::refusal("100-007").expect("a refusal");
    assert_eq!(config.retcodes.get(&retcode).expect("overridden").code, 13);
}

#[test]
fn mistakes_outside_the_file_name_the_variable_or_the_flag() {
    let sources = Sources::from_environment([
        ACME,
        ("CCGW__LOG__FORMAT", "xml"),
        ("CCGW__LISTEN", "[::1]:1"),
        ("CCGW__SERVER__CALLS_MAX", "many"),
        ("CCGW__SERVER__REFLECTION", "yes"),
        ("CCGW__SERVER__LISTN", "[::1]:1"),
        ("CCGW__SERVER__TLS", "on"),
        ("CCGW__SERVR__LISTEN", "[::1]:1"),
        ("CCGW__SERVR__CALLS_MAX", "1"),
        ("CCGW____", ""),
    ])
    .with_flag("--listen", "server.listen", "here");
    let mistakes = Folder::new().mistakes_of(&sources);
    let expected = [
        "environment CCGW__LISTEN  listen: is not a known key; did you mean CCGW__SERVER__LISTEN?",
        "environment CCGW__LOG__FORMAT  log.format: \"xml\" is not one of its words; ",
        "environment CCGW__SERVER__CALLS_MAX  server.calls_max: \"many\" is not a whole number; ",
        "environment CCGW__SERVER__LISTN  server.listn: is not a known key; did you mean CCGW__SERVER__LISTEN?",
        "environment CCGW__SERVER__REFLECTION  server.reflection: \"yes\" is neither true nor false; ",
        "environment CCGW__SERVER__TLS  server.tls: is text, not a section; ",
        "environment CCGW__SERVR__CALLS_MAX  servr.calls_max: is not a known key; did you mean CCGW__SERVER__CALLS_MAX?",
        "environment CCGW__SERVR__LISTEN  servr.listen: is not a known key; did you mean CCGW__SERVER__LISTEN?",
        "environment CCGW____  \"\".\"\": is not a known key; the example file names every key",
        "--listen  server.listen: \"here\" is no address to listen on; ",
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
