//! Who callers are and what they may do: `[issuers.<name>]`, `[callers.<name>]`, and what listeners ask.

use std::time::Duration;

use ccgateway_bridge::{
    access::{Access, Principal, Right},
    config::{self, Config, KeysPlace},
    id::TenantId,
};

use crate::support::{Folder, TENANT, load};

/// An issuer whose keys are in the folder, and what it needs.
const ISSUER: &str = "[issuers.k8s]\nissuer = \"https://k8s\"\naudiences = [\"bridge\"]\njwks_file = \"jwks.json\"\n";
const RULE: &str = "[callers.all]\nprincipals = [\"*\"]\ntenants = [\"*\"]\nrights = [\"*\"]\n";
/// An Ed25519 key, whose public part this is.
const JWKS: &str = "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\
                    \"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}";

/// A folder with a CA's certificate, a server's with its key, and keys of an issuer.
fn folder() -> Folder {
    let folder = Folder::new();
    let made = rcgen::generate_simple_self_signed(["bridge.example".to_owned()]).unwrap();
    folder.write("ca.pem", made.cert.pem());
    folder.write("server.pem", made.cert.pem());
    folder.write("server.key", made.signing_key.serialize_pem());
    folder.write("jwks.json", JWKS);
    folder.write("no-keys.json", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}]}");
    folder.write("text.json", "keys");
    folder
}

fn loaded(lines: &str) -> Config {
    let folder = folder();
    let loaded = config::load(&folder.sources(format!("{TENANT}{lines}")));
    loaded.unwrap_or_else(|errors| panic!("{lines}\n{errors}"))
}

fn mistakes(lines: &str) -> Vec<String> {
    folder().mistakes(format!("{TENANT}{lines}"))
}

/// There is this mistake, and no other.
#[track_caller]
fn only(lines: &str, expected: &str) {
    let mistakes = mistakes(lines);
    assert!(mistakes[0].starts_with(expected), "{lines}\n{mistakes:#?}");
    // An example goes on in lines of its own.
    assert!(mistakes.iter().skip(1).all(|line| !line.contains("  ")), "{lines}\n{mistakes:#?}");
}

fn access(config: &Config, principal: Principal) -> Access {
    let tenants: Vec<TenantId> = config.tenants.keys().cloned().collect();
    config.callers.rules(tenants).access(vec![principal], None)
}

fn may(access: &Access, tenant: &str, right: Right) -> bool {
    access.tenant(tenant, right).is_ok()
}

fn cn(name: &str) -> Principal {
    Principal::CommonName(name.into())
}

#[test]
fn a_rule_gives_its_rights_at_its_tenants_to_its_callers() {
    let config = loaded(&format!(
        "tenants.globex.base_urls = \"https://b.example\"\ntenants.globex.callers = [\"named\"]\n\
         {ISSUER}\
         [callers.ivr]\nprincipals = [\"cn:ivr\", \"jwt:k8s:dialer\"]\ntenants = [\"acme\"]\n\
         rights = [\"read\", \"write\"]\n\
         [callers.operators]\nprincipals = \"cn:operator\"\ntenants = \"*\"\nrights = \"*\"\n\
         [callers.named]\nprincipals = [\"cn:wallboard\"]\nrights = [\"watch\"]\n"
    ));
    let dialer = Principal::Token { issuer: "k8s".into(), subject: "dialer".into() };
    for principal in [cn("ivr"), dialer] {
        let access = access(&config, principal);
        assert!(may(&access, "acme", Right::Read) && may(&access, "acme", Right::Write));
        assert!(!may(&access, "acme", Right::Session) && !may(&access, "globex", Right::Read));
        assert_eq!(access.only_tenant(), Some("acme"));
    }
    let operator = access(&config, cn("operator"));
    for (_, right) in Right::ALL {
        assert!(may(&operator, "acme", right) && may(&operator, "globex", right));
    }
    let wallboard = access(&config, cn("wallboard"));
    assert!(may(&wallboard, "globex", Right::Watch) && !may(&wallboard, "acme", Right::Watch));
    let stranger = access(&config, cn("stranger"));
    assert!(Right::ALL.iter().all(|(_, right)| !may(&stranger, "acme", *right)));
}

#[test]
fn without_rules_everybody_who_is_let_in_may_do_everything() {
    let access = access(&load(TENANT), Principal::Anonymous);
    assert!(Right::ALL.iter().all(|(_, right)| may(&access, "acme", *right)));
}

#[test]
fn mistakes_in_rules_say_what_is_wrong() {
    for (line, expected) in [
        ("", "bridge.toml  callers: has no rules; add one, for example"),
        ("a = 1", "bridge.toml:3  callers.a: is a number, not a section; "),
    ] {
        only(&format!("[callers]\n{line}\n"), expected);
    }
    let all = ["principals = [\"*\"]", "tenants = [\"*\"]", "rights = [\"*\"]"];
    for (at, line, expected) in [
        (0, "", "bridge.toml  callers.a.principals: is missing; give \"spiffe://domain/path\", "),
        (
            1,
            "",
            "bridge.toml  callers.a.tenants: is missing; give the ids of tenants, or \"*\" for all",
        ),
        (2, "", "bridge.toml  callers.a.rights: is missing; give some of \"read\", \"write\", "),
        (0, "principals = []", "bridge.toml:3  callers.a.principals: has 0 entries; give 1 to 256"),
        (
            0,
            "principals = [\"ivr\"]",
            "bridge.toml:3  callers.a.principals: \"ivr\" is no principal; ",
        ),
        (
            0,
            "principals = [\"cn:\"]",
            "bridge.toml:3  callers.a.principals: \"cn:\" names nobody; ",
        ),
        (
            0,
            "principals = [\"spiffe://a/b*\"]",
            "bridge.toml:3  callers.a.principals: \"spiffe://a/b*\" has a \"*\" that is neither the \
             last part nor ",
        ),
        (
            0,
            "principals = [\"jwt:k8s:ivr\"]",
            "bridge.toml:3  callers.a.principals: \"jwt:k8s:ivr\" names an issuer that is no section \
             of [issuers]; ",
        ),
        (
            1,
            "tenants = [\"b\"]",
            "bridge.toml:4  callers.a.tenants: tenant \"b\" is not configured; ",
        ),
        (2, "rights = [\"admin\"]", "bridge.toml:5  callers.a.rights: \"admin\" is no right; "),
    ] {
        let mut lines = all;
        lines[at] = line;
        only(&format!("[callers.a]\n{}\n", lines.join("\n")), expected);
    }
}

#[test]
fn each_name_in_a_tenants_callers_is_a_section() {
    let mistakes = mistakes(&format!("tenants.acme.callers = [\"all\", \"b\", \"c\"]\n{RULE}"));
    let told = |name: &str| {
        format!(
            "bridge.toml:2  tenants.acme.callers: \"{name}\" names no section of [callers]; add that \
             section, or give the name of another"
        )
    };
    assert_eq!(mistakes, [told("b"), told("c")]);
}

#[test]
fn an_issuer_has_defaults() {
    let config = loaded(&format!("{ISSUER}{RULE}"));
    let issuer = &config.issuers["k8s"];
    assert_eq!(
        (issuer.issuer.as_str(), &issuer.audiences[..]),
        ("https://k8s", &["bridge".to_owned()][..])
    );
    assert_eq!(format!("{:?}", issuer.algorithms), "[RS256, ES256, EdDSA]");
    assert_eq!(
        (issuer.leeway, issuer.refresh),
        (Duration::from_secs(30), Duration::from_secs(300))
    );
    assert!(matches!(&issuer.keys, KeysPlace::File(path) if path.ends_with("jwks.json")));
    assert_eq!(config.listeners["default"].issuers, ["k8s"]);
}

#[test]
fn mistakes_in_issuers_say_what_is_wrong() {
    let all =
        ["issuer = \"https://k8s\"", "audiences = [\"bridge\"]", "jwks_file = \"jwks.json\"", ""];
    for (at, line, expected) in [
        (
            0,
            "",
            "bridge.toml  issuers.k8s.issuer: is missing; give the claim \"iss\" of its tokens",
        ),
        (0, "issuer = \"\"", "bridge.toml:3  issuers.k8s.issuer: is empty; "),
        (1, "", "bridge.toml  issuers.k8s.audiences: is missing; give the claim \"aud\" "),
        (1, "audiences = []", "bridge.toml:4  issuers.k8s.audiences: has 0 entries; give 1 to 16"),
        (
            2,
            "",
            "bridge.toml  issuers.k8s.jwks_url: is missing; give the URL of the issuer's public keys",
        ),
        (
            2,
            "jwks_file = \"away\"",
            "bridge.toml:5  issuers.k8s.jwks_file: cannot read \"away\" (No such",
        ),
        (
            2,
            "jwks_file = \"text.json\"",
            "bridge.toml:5  issuers.k8s.jwks_file: \"text.json\" is not a JSON ",
        ),
        (
            2,
            "jwks_file = \"no-keys.json\"",
            "bridge.toml:5  issuers.k8s.jwks_file: \"no-keys.json\" has no RSA",
        ),
        (
            2,
            "jwks_url = \"k8s/jwks\"",
            "bridge.toml:5  issuers.k8s.jwks_url: \"k8s/jwks\" is not an http:// or",
        ),
        (
            2,
            "jwks_url = \"ftp://k8s\"",
            "bridge.toml:5  issuers.k8s.jwks_url: \"ftp://k8s\" is not an http://",
        ),
        (
            2,
            "jwks_url = \"https://me:secret@k8s\"",
            "bridge.toml:5  issuers.k8s.jwks_url: has an address with a user name or password; ",
        ),
        (
            3,
            "jwks_url = \"https://k8s\"",
            "bridge.toml:5  issuers.k8s.jwks_file: contradicts jwks_url; remove one",
        ),
        (
            3,
            "jwks_ca_file = \"ca.pem\"",
            "bridge.toml:6  issuers.k8s.jwks_ca_file: has no effect without jwks_url",
        ),
        (
            3,
            "jwks_token_file = \"t\"",
            "bridge.toml:6  issuers.k8s.jwks_token_file: has no effect without jwks_url",
        ),
        (3, "algorithms = []", "bridge.toml:6  issuers.k8s.algorithms: has 0 entries; "),
        (
            3,
            "algorithms = [\"rs256\"]",
            "bridge.toml:6  issuers.k8s.algorithms: \"rs256\" is not an algorithm",
        ),
        (3, "leeway = \"6m\"", "bridge.toml:6  issuers.k8s.leeway: \"6m\" is out of range; "),
        (3, "refresh = \"1s\"", "bridge.toml:6  issuers.k8s.refresh: \"1s\" is out of range; "),
    ] {
        let mut lines = all;
        lines[at] = line;
        only(&format!("[issuers.k8s]\n{}\n{RULE}", lines.join("\n")), expected);
    }
    only(
        &format!("{}{RULE}", ISSUER.replace("k8s]", "K8S]")),
        "bridge.toml:2  issuers.K8S: \"K8S\" is not a valid name of an issuer; it must be 1 to 63 of ",
    );
}

#[test]
fn neither_unsigned_tokens_nor_shared_secrets_are_ever_taken() {
    for algorithm in ["none", "None", "HS256", "HS384", "HS512", ""] {
        let lines = format!("{ISSUER}algorithms = [\"RS256\", \"{algorithm}\"]\n{RULE}");
        only(
            &lines,
            &format!(
                "bridge.toml:6  issuers.k8s.algorithms: \"{algorithm}\" is not an algorithm for tokens \
                 here; give some of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA; \
                 neither \"none\" nor a shared secret (HS256) is ever taken"
            ),
        );
    }
}

#[test]
fn keys_that_come_in_plain_text_over_the_network_are_warned_of() {
    for (url, expected) in [
        ("http://issuer.example/jwks", 1),
        ("http://10.0.0.1:8080/jwks", 1),
        ("https://issuer.example/jwks", 0),
        ("http://localhost/jwks", 0),
        ("http://127.0.0.1:8080/jwks", 0),
        ("http://[::1]:8080/jwks", 0),
    ] {
        let issuer = ISSUER.replace("jwks_file = \"jwks.json\"", &format!("jwks_url = \"{url}\""));
        let config = loaded(&format!("listeners.a.address = \"127.0.0.1:1\"\n{issuer}{RULE}"));
        let warnings = config.warnings();
        assert_eq!(warnings.len(), expected, "{url}: {warnings:#?}");
        let start = "issuers.k8s.jwks_url is http://";
        assert!(warnings.iter().all(|warning| warning.starts_with(start)), "{warnings:#?}");
    }
}

#[test]
fn a_listener_takes_the_tokens_of_all_issuers_or_of_those_it_names() {
    let other = ISSUER.replace("issuers.k8s", "issuers.other");
    for (line, expected) in [
        ("", &["k8s", "other"][..]),
        ("issuers = [\"other\"]", &["other"]),
        ("issuers = \"other\"", &["other"]),
        ("issuers = []", &[]),
    ] {
        let config = loaded(&format!(
            "[listeners.a]\naddress = \"127.0.0.1:1\"\n{line}\n{ISSUER}{other}{RULE}"
        ));
        assert_eq!(config.listeners["a"].issuers, expected, "{line}");
        assert_eq!(config.listeners["a"].identifies(), !expected.is_empty(), "{line}");
    }
    only(
        &format!("[listeners.a]\naddress = \"[::]:1\"\nissuers = [\"b\"]\n{ISSUER}{RULE}"),
        "bridge.toml:4  listeners.a.issuers: \"b\" names no section of [issuers]; add that section",
    );
}

/// A rule, a listener or an address that is good apart from a mistake elsewhere is no second mistake.
#[test]
fn one_mistake_is_told_once() {
    let broken = ISSUER.replace("audiences = [\"bridge\"]\n", "");
    only(
        &format!(
            "[listeners.a]\naddress = \"[::]:1\"\nissuers = [\"k8s\"]\n{broken}\
             [callers.a]\nprincipals = [\"jwt:k8s:ivr\"]\ntenants = [\"*\"]\nrights = [\"*\"]\n"
        ),
        "bridge.toml  issuers.k8s.audiences: is missing; ",
    );
    only(
        &format!(
            "listeners.a.address = \"[::]:1\"\nlisteners.a.tls.client_ca_file = \"text.json\"\n\
                  listeners.a.tls.certificate_file = \"server.pem\"\nlisteners.a.tls.key_file = \"server.key\"\n{RULE}"
        ),
        "bridge.toml:3  listeners.a.tls.client_ca_file: \"text.json\" holds no certificate; give the \
         path of a PEM file with the CA certificate of callers' certificates",
    );
}

#[test]
fn a_listener_that_asks_callers_who_they_are_needs_rules() {
    only(
        ISSUER,
        "bridge.toml  listeners.default: asks callers who they are, but there are no rules on what \
         they may do; add one, for example",
    );
    assert!(loaded(&format!("{ISSUER}{RULE}")).listeners["default"].identifies());
}
