//! `[store]`.

use std::time::Duration;

use ccgateway_bridge::config::{self, LeftSessions, Topology, WhenAway};
use secrecy::ExposeSecret;

use crate::support::{Folder, KEY, TENANT};

/// A key in base64.
const B_KEY: &str = "0TBg7vkUuEBWBfTJ6LKUT9eO9xUi/kKM10ZbuwXZZcs=";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("a.key", KEY);
    folder.write("b.key", B_KEY);
    folder.write("password", "c4n4ry\n");
    folder
}

#[test]
fn without_a_section_sessions_are_not_shared() {
    assert!(crate::support::load(TENANT).store.is_none());
}

#[test]
fn an_address_and_a_key_are_enough() {
    let folder = folder();
    let text = format!(
        "{TENANT}[store]\nurls = [\"redis://localhost\"]\nencryption_key_files = [\"a.key\"]\n"
    );
    let store = config::load(&folder.sources(text)).expect("good").store;
    let store = store.as_ref().and_then(config::Store::redis).expect("a Redis");
    assert!(matches!(store.redis.topology, Topology::Standalone));
    assert_eq!(
        (store.redis.nodes[0].host.as_str(), store.redis.nodes[0].port),
        ("localhost", 6379)
    );
    assert!(store.redis.tls.is_none() && store.redis.password.is_none());
    assert_eq!(store.key_prefix, "ccgw:");
    assert_eq!(store.encryption_keys.len(), 1);
    assert!(!store.credentials, "nobody's password is stored unasked");
    assert_eq!(store.when_away, WhenAway::Keep);
    let times = &store.redis.timeouts;
    let all = [times.connect, times.command, times.heartbeat];
    assert_eq!(all, [1000, 500, 5000].map(Duration::from_millis));
}

#[test]
fn everything_is_read_and_no_secret_is_shown() {
    let folder = folder();
    let text = format!(
        "{TENANT}[store]\nurls = [\"rediss://s1\", \"rediss://s2:7000\"]\ntopology = \"sentinel\"\n\
         username = \"bridge\"\npassword_file = \"password\"\nkey_prefix = \"x:\"\n\
         credentials = true\nwhen_away = \"stop\"\n\
         encryption_key_files = [\"a.key\", \"b.key\"]\n[store.sentinel]\nmaster = \"main\"\n\
         password_file = \"password\"\n"
    );
    let config = config::load(&folder.sources(text)).expect("good");
    let store = config.store.as_ref().and_then(config::Store::redis).expect("a Redis");
    let Topology::Sentinel(sentinel) = &store.redis.topology else { panic!("{store:?}") };
    assert_eq!(sentinel.master, "main");
    assert_eq!(store.redis.password.as_ref().map(ExposeSecret::expose_secret), Some("c4n4ry"));
    assert_eq!(store.redis.nodes.len(), 2);
    assert!(store.credentials);
    assert_eq!(store.when_away, WhenAway::Stop);
    let shown = format!("{config:?}");
    assert!(!shown.contains("c4n4ry") && !shown.contains(&KEY[..8]) && !shown.contains("0TBg"));
}

#[test]
fn a_file_is_a_store_for_one_process() {
    let folder = folder();
    let key = folder.write("private.key", KEY);
    #[cfg(unix)]
    std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let loopback = format!(
        "{TENANT}listeners.default.address = \"127.0.0.1:1\"\n[store]\nfile = \"s.redb\"\n"
    );
    for (lines, keys, credentials, warnings) in [
        ("", 0, false, 1),
        ("encryption_key_files = \"private.key\"\n", 1, false, 0),
        ("encryption_key_files = \"private.key\"\ncredentials = true\n", 1, true, 0),
    ] {
        let config = config::load(&folder.sources(format!("{loopback}{lines}"))).expect("good");
        let file = config.store.as_ref().and_then(config::Store::file).expect("a file");
        assert!(file.path.ends_with("s.redb") && file.path.is_absolute(), "{file:?}");
        assert_eq!((file.encryption_keys.len(), file.credentials), (keys, credentials));
        assert_eq!(config.warnings().len(), warnings, "{:#?}", config.warnings());
        assert_eq!(config.server.drain.sessions, LeftSessions::Leave);
    }
}

#[test]
fn without_a_store_the_default_is_to_sign_out() {
    let folder = folder();
    let redis = "[store]\nurls = \"redis://h\"\nencryption_key_files = \"a.key\"\n";
    let leave = "[server.drain]\nsessions = \"leave\"\n";
    let sign_out = "[server.drain]\nsessions = \"sign-out\"\n[store]\nfile = \"s\"\n";
    for (lines, expected) in [
        ("", LeftSessions::SignOut),
        (leave, LeftSessions::Leave),
        (redis, LeftSessions::Leave),
        (sign_out, LeftSessions::SignOut),
    ] {
        let config = config::load(&folder.sources(format!("{TENANT}{lines}"))).expect("good");
        assert_eq!(config.server.drain.sessions, expected, "{lines}");
    }
}

#[test]
fn a_file_and_a_redis_contradict_each_other() {
    for (line, key) in [
        ("urls = \"redis://h\"", "urls"),
        ("topology = \"cluster\"", "topology"),
        ("key_prefix = \"x:\"", "key_prefix"),
        ("lease = \"2s\"", "lease"),
        ("when_away = \"stop\"", "when_away"),
        ("timeouts.command = \"1s\"", "timeouts"),
        ("sentinel.master = \"main\"", "sentinel"),
    ] {
        let text = format!("{TENANT}[store]\nfile = \"s.redb\"\n{line}\n");
        let mistakes = folder().mistakes(text);
        assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
        assert!(mistakes[0].starts_with(&format!("bridge.toml:4  store.{key}: ")), "{mistakes:#?}");
        assert!(
            mistakes[0].contains("file") && mistakes[0].contains("store.urls"),
            "{mistakes:#?}"
        );
    }
}

#[test]
fn an_impossible_path_of_a_file_is_a_mistake() {
    let folder = folder();
    std::fs::create_dir(folder.write("in-the-way", "").with_file_name("a-folder")).unwrap();
    for (file, expected) in [
        ("none/s.redb", "the folder of"),
        ("in-the-way/s.redb", "in something that is not a folder"),
        ("a-folder", "is not a file"),
    ] {
        let mistakes = folder.mistakes(format!("{TENANT}[store]\nfile = \"{file}\"\n"));
        assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
        assert!(
            mistakes[0].contains("store.file: ") && mistakes[0].contains(expected),
            "{mistakes:?}"
        );
        assert!(mistakes[0].contains("in a folder that exists"), "{mistakes:?}");
    }
    let text = format!("{TENANT}[store]\nfile = \"s.redb\"\ncredentials = true\n");
    let mistakes = folder.mistakes(text);
    assert!(mistakes[0].contains("store.credentials: would store passwords in plain text"));
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
}

#[test]
fn every_mistake_is_named_at_once() {
    let folder = folder();
    folder.write("short.key", "c4n4ry");
    let text = format!(
        "{TENANT}[store]\nurls = [\"redis://u:c4n4ry@h\", \"http://h\"]\ntopology = \"ring\"\n\
         password_file = \"none\"\nkey_prefix = \"a{{b\"\n\
         encryption_key_files = [\"short.key\", \"none.key\"]\ntimeouts.command = \"0s\"\n\
         when_away = \"wait\"\n"
    );
    let mistakes = folder.mistakes(text);
    let expected = [
        "bridge.toml:3  store.urls: \"http://h\" is not an address of a Redis",
        "bridge.toml:3  store.urls: has an address with a user name or password",
        "bridge.toml:4  store.topology: \"ring\" is not one of the allowed words",
        "bridge.toml:5  store.password_file: cannot read",
        "bridge.toml:6  store.key_prefix: \"a{b\" is not a key prefix",
        "bridge.toml:7  store.encryption_key_files: \"short.key\" does not hold a key: it is a text of 6 bytes",
        "bridge.toml:7  store.encryption_key_files: cannot read \"none.key\"",
        "bridge.toml:8  store.timeouts.command: \"0s\" is out of range",
        "bridge.toml:9  store.when_away: \"wait\" is not one of the allowed words",
    ];
    for expected in expected {
        assert!(mistakes.iter().any(|m| m.starts_with(expected)), "{expected}: {mistakes:#?}");
    }
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
    assert!(!mistakes.concat().contains("c4n4ry"));
}

#[test]
fn settings_that_contradict_each_other_are_mistakes() {
    for (lines, expected) in [
        ("", "store.encryption_key_files: is missing"),
        ("encryption_key_files = \"a.key\"", "store.urls: is missing"),
        (
            "urls = [\"redis://a\", \"redis://b\"]",
            "urls has 2 addresses, and topology is standalone",
        ),
        ("urls = [\"redis://a\", \"rediss://b\"]\ntopology = \"cluster\"", "with TLS and without"),
        ("urls = \"redis://a\"\ntopology = \"sentinel\"", "store.sentinel.master: is missing"),
        ("encryption_key_files = [\"a.key\", \"a.key\"]", "names files with the same key"),
        ("username = \"u\"", "has no effect without password_file"),
    ] {
        let mistakes = folder().mistakes(format!("{TENANT}[store]\n{lines}\n"));
        assert!(mistakes.iter().any(|m| m.contains(expected)), "{expected}: {mistakes:#?}");
    }
}

#[test]
fn plain_text_over_a_network_is_warned_of() {
    for (host, count) in [("redis.example", 1), ("127.0.0.1", 0), ("[::1]:7", 0)] {
        let folder = folder();
        let key = folder.write("private.key", KEY);
        #[cfg(unix)]
        std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let text = format!(
            "{TENANT}listeners.default.address = \"[::1]:1\"\n[store]\nurls = \"redis://{host}\"\n\
             encryption_key_files = \"private.key\"\n"
        );
        let warnings = config::load(&folder.sources(text)).expect("good").warnings();
        assert_eq!(warnings.len(), count, "{warnings:#?}");
    }
}

/// The key is told by its length alone, whatever it is.
#[test]
fn a_key_that_nobody_has_drawn_at_random_is_a_mistake() {
    let template = include_str!("../../deploy/overlays/prod/store-secret.example.yaml");
    let placeholder = template.lines().find_map(|line| line.trim().strip_prefix("session.key: "));
    let placeholder = placeholder.expect("a placeholder").trim_matches('"');
    for (key, problem) in [
        (placeholder.as_bytes(), "it is a text of"),
        ("0".repeat(64).as_bytes(), "only 1 of its 32 bytes are different, so it is not random"),
        (&[0; 32], "only 1 of its 32 bytes are different, so it is not random"),
        (b"changeme".repeat(4).as_slice(), "it is a text of 32 bytes"),
        (&KEY.as_bytes()[..32], "it has 32 hex digits, not 64"),
    ] {
        let folder = Folder::new();
        folder.write("bad.key", key);
        let text =
            format!("{TENANT}[store]\nfile = \"s.redb\"\nencryption_key_files = \"bad.key\"\n");
        let mistakes = folder.mistakes(text);
        let told = "store.encryption_key_files: \"bad.key\" does not hold a key: ";
        let [mistake] = &mistakes[..] else { panic!("{problem}: {mistakes:#?}") };
        assert!(mistake.contains(&format!("{told}{problem}")), "{mistake}");
    }
}
