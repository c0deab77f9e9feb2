//! `[listeners.<name>]`, `[admin]` and `--listen`.

use ccgateway_bridge::config::{self, Config};

use crate::support::{Folder, TENANT, load};

/// Names, and addresses.
fn listeners(config: &Config) -> Vec<(&str, String)> {
    let each = config.listeners.iter();
    each.map(|(name, listener)| (name.as_str(), listener.address.to_string())).collect()
}

fn mistakes(lines: &str) -> Vec<String> {
    Folder::new().mistakes(format!("{TENANT}{lines}"))
}

#[test]
fn without_a_section_there_is_one_listener() {
    assert_eq!(listeners(&load(TENANT)), [("default", "[::]:50051".to_owned())]);
}

#[test]
fn the_only_listener_needs_no_address() {
    let config = load(&format!("{TENANT}[listeners.mesh.http2]\nmax_concurrent_streams = 7\n"));
    assert_eq!(listeners(&config), [("mesh", "[::]:50051".to_owned())]);
    assert_eq!(config.listeners["mesh"].http2.max_concurrent_streams, 7);
}

#[test]
fn several_listeners_can_be_configured() {
    let config = load(&format!(
        "{TENANT}[listeners.mesh]\naddress = \"127.0.0.1:1\"\nhttp2.keepalive_interval = \"1m\"\n\
         [listeners.outside]\naddress = \"[::]:2\"\n"
    ));
    assert_eq!(
        listeners(&config),
        [("mesh", "127.0.0.1:1".to_owned()), ("outside", "[::]:2".to_owned())]
    );
    let pinged = |name: &str| config.listeners[name].http2.keepalive_interval.as_secs();
    assert_eq!((pinged("mesh"), pinged("outside")), (60, 30));
    // Only the one that others can see speaks in plain text to them.
    let warnings = config.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    let expected = "listeners.outside.address is [::]:2 without [listeners.outside.tls]";
    assert!(warnings[0].starts_with(expected), "{warnings:#?}");
}

#[test]
fn several_listeners_need_different_addresses() {
    for (lines, expected) in [
        (
            "[listeners.a]\naddress = \"127.0.0.1:1\"\n[listeners.b]\n",
            "bridge.toml  listeners.b.address: is missing; give each listener its own",
        ),
        (
            "listeners.a.address = \"0.0.0.0:1\"\nlisteners.b.address = \"127.0.0.1:1\"\n",
            "bridge.toml:3  listeners.b.address: 127.0.0.1:1 is taken by listener a; ",
        ),
        (
            "listeners.a.address = \"everywhere\"\nlisteners.b.address = \"0.0.0.0:50051\"\n",
            "bridge.toml:2  listeners.a.address: \"everywhere\" is not an address to listen on; ",
        ),
        (
            "listeners.a.address = \"0.0.0.0:1\"\nlisteners.b.address = \"0.0.0.0:2\"\n\
             admin.address = \"127.0.0.1:2\"\n",
            "bridge.toml:4  admin.address: listener b is at 0.0.0.0:2, and admin at 127.0.0.1:2; ",
        ),
    ] {
        let mistakes = mistakes(lines);
        assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
        assert!(mistakes[0].starts_with(expected), "{mistakes:#?}");
    }
}

#[test]
fn names_of_listeners_fit_into_variables() {
    for (name, good) in [
        ("a", true),
        ("mesh-2_x", true),
        ("a__b", false),
        ("a_", false),
        ("_a", false),
        ("Mesh", false),
        ("\"a.b\"", false),
        ("\"\"", false),
    ] {
        let text = format!("{TENANT}listeners.{name}.address = \"127.0.0.1:1\"\n");
        let loaded = config::load(&Folder::new().sources(text));
        assert_eq!(loaded.is_ok(), good, "{name}: {loaded:?}");
    }
    let mistake = &mistakes("listeners.a__b.address = \"127.0.0.1:1\"\n")[0];
    let expected =
        "bridge.toml:2  listeners.a__b: \"a__b\" is not a valid listener name; it must be";
    assert!(mistake.starts_with(expected) && mistake.contains("without \"__\""), "{mistake}");
}

#[test]
fn the_listen_flag_sets_the_only_listener_or_the_one_named_default() {
    let two = "listeners.default.address = \"[::1]:1\"\nlisteners.mesh.address = \"[::1]:2\"\n";
    for (lines, expected) in [
        ("", "default"),
        ("listeners.default.http2.max_concurrent_streams = 7\n", "default"),
        ("listeners.mesh.address = \"[::1]:1\"\n", "mesh"),
        (two, "default"),
    ] {
        let folder = Folder::new();
        let sources = folder.sources(format!("{TENANT}{lines}"));
        let sources = sources.with_flag("--listen", "listeners.*.address", "[::1]:9");
        let config = config::load(&sources).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.listeners[expected].address.to_string(), "[::1]:9", "{lines}");
    }
}

#[test]
fn the_listen_flag_is_refused_if_several_listeners_could_be_meant() {
    let folder = Folder::new();
    let text = format!(
        "{TENANT}listeners.mesh.address = \"[::1]:1\"\nlisteners.outside.address = \"[::1]:2\"\n"
    );
    let sources = folder.sources(text).with_flag("--listen", "listeners.*.address", "[::1]:9");
    assert_eq!(
        folder.mistakes_of(&sources),
        ["--listen  listeners: there are several, and none is named default: mesh, outside; give \
          each listener's address in its section, or as CCGW__LISTENERS__<NAME>__ADDRESS"]
    );
}
