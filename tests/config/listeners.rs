//! `[listeners.<name>]`, `[admin]` and `--listen`.

use ccgateway_bridge::config::{self, Config, Sources};

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
    assert_eq!(listeners(&load(TENANT)), [("default", "127.0.0.1:50051".to_owned())]);
}

#[test]
fn the_only_listener_needs_no_address() {
    let config = load(&format!("{TENANT}[listeners.mesh.http2]\nmax_concurrent_streams = 7\n"));
    assert_eq!(listeners(&config), [("mesh", "127.0.0.1:50051".to_owned())]);
    assert_eq!(config.listeners["mesh"].http2.max_concurrent_streams, 7);
}

#[test]
fn others_reach_a_listener_only_if_something_says_who_may_call() {
    for (lines, expected) in [
        ("", "127.0.0.1:50051"),
        ("allow_anonymous = true", "[::]:50051"),
        ("allow_anonymous = true\naddress = \"0.0.0.0:1\"", "0.0.0.0:1"),
        ("address = \"[::1]:1\"", "[::1]:1"),
        ("address = \"127.1.2.3:1\"", "127.1.2.3:1"),
        // IPv4 in the form of IPv6 is IPv4.
        ("address = \"[::ffff:127.0.0.1]:1\"", "127.0.0.1:1"),
    ] {
        let config = load(&format!("{TENANT}[listeners.a]\n{lines}\n"));
        assert_eq!(listeners(&config), [("a", expected.to_owned())], "{lines}");
        assert!(config.listeners["a"].allows_anonymous());
    }
    for (address, shown) in [
        ("[::]:50051", "[::]:50051"),
        ("0.0.0.0:50051", "0.0.0.0:50051"),
        ("10.0.0.1:1", "10.0.0.1:1"),
        ("[::ffff:10.0.0.1]:1", "10.0.0.1:1"),
        ("[::ffff:0.0.0.0]:1", "0.0.0.0:1"),
        // The older form is nobody's address on this machine.
        ("[::127.0.0.1]:1", "[::7f00:1]:1"),
    ] {
        let line = format!("listeners.a.address = \"{address}\"\n");
        let expected = format!(
            "bridge.toml:2  listeners.a.address: other machines can reach {shown}, but this listener \
             does not ask callers who they are; give tls.client_ca_file to ask for their certificates, \
             or add a section of [issuers] to take tokens; or listen on 127.0.0.1; or set \
             allow_anonymous = true to let everybody call who reaches the port"
        );
        assert_eq!(mistakes(&line), [expected]);
    }
}

#[test]
fn an_address_of_the_environment_or_a_flag_is_no_exception() {
    let folder = Folder::new();
    let variables = [("CCGW__LISTENERS__DEFAULT__ADDRESS".to_owned(), "0.0.0.0:1")];
    let file = folder.write("bridge.toml", TENANT);
    let sources = Sources::from_environment(variables).with_file(&file);
    let flagged = folder.sources(TENANT).with_flag("--listen", "listeners.*.address", "[::]:9");
    for (sources, expected) in [
        (
            sources,
            "environment CCGW__LISTENERS__DEFAULT__ADDRESS  listeners.default.address: other ",
        ),
        (flagged, "--listen  listeners.default.address: other machines can reach [::]:9, but "),
    ] {
        let mistakes = folder.mistakes_of(&sources);
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(expected), "{mistakes:#?}");
    }
}

#[test]
fn several_listeners_can_be_configured() {
    let config = load(&format!(
        "{TENANT}[listeners.mesh]\naddress = \"127.0.0.1:1\"\nhttp2.keepalive_interval = \"1m\"\n\
         [listeners.outside]\naddress = \"[::]:2\"\nallow_anonymous = true\n"
    ));
    assert_eq!(
        listeners(&config),
        [("mesh", "127.0.0.1:1".to_owned()), ("outside", "[::]:2".to_owned())]
    );
    let pinged = |name: &str| config.listeners[name].http2.keepalive_interval.as_secs();
    assert_eq!((pinged("mesh"), pinged("outside")), (60, 30));
    // Only the one that others can see speaks in plain text to them, and lets everybody call.
    let warnings = config.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    for (warning, expected) in warnings.iter().zip([
        "listeners.outside.address is [::]:2 without [listeners.outside.tls]",
        "listeners.outside.allow_anonymous is true: everybody who reaches [::]:2 may call",
    ]) {
        assert!(warning.starts_with(expected), "{warnings:#?}");
    }
}

#[test]
fn several_listeners_need_different_addresses() {
    for (lines, expected) in [
        (
            "[listeners.a]\naddress = \"127.0.0.1:1\"\n[listeners.b]\n",
            "bridge.toml  listeners.b.address: is missing; give each listener its own",
        ),
        (
            "listeners.a.address = \"127.0.0.1:1\"\nlisteners.b.address = \"[::ffff:127.0.0.1]:1\"\n",
            "bridge.toml:3  listeners.b.address: 127.0.0.1:1 is taken by listener a; ",
        ),
        (
            "listeners.a = { address = \"0.0.0.0:1\", allow_anonymous = true }\n\
             listeners.b.address = \"127.0.0.1:1\"\n",
            "bridge.toml:3  listeners.b.address: 127.0.0.1:1 is taken by listener a; ",
        ),
        (
            "listeners.a.address = \"everywhere\"\nlisteners.b.address = \"127.0.0.1:50051\"\n",
            "bridge.toml:2  listeners.a.address: \"everywhere\" is not an address to listen on; ",
        ),
        (
            "listeners.a = { address = \"0.0.0.0:1\", allow_anonymous = true }\n\
             listeners.b = { address = \"0.0.0.0:2\", allow_anonymous = true }\n\
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
