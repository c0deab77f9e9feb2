use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::UnixTime,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use tokio_util::sync::CancellationToken;

use super::super::{PrincipalPattern, Reach, Rule, Rules};
use super::*;

/// Vouches for everybody, and counts how often it is asked.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl ClientCertVerifier for Counting {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Vec::new()
    }
}

fn tenants(ids: &[&str]) -> Vec<TenantId> {
    ids.iter().map(|id| TenantId::parse(id).unwrap()).collect()
}

fn rule(principal: &str, at: Option<&[&str]>, rights: &[Right]) -> Rule {
    let principals = vec![PrincipalPattern::parse(principal).unwrap()];
    let reach = at.map_or(Reach::Everywhere, |ids| Reach::At(tenants(ids)));
    Rule { principals, reach, rights: rights.iter().copied().collect() }
}

fn access(rules: &[Rule], principals: &[&str]) -> Access {
    let named = |name: &&str| Principal::CommonName((*name).into());
    let rules = Rules::new(rules.to_vec(), tenants(&["a", "b"]));
    rules.access(principals.iter().map(named).collect(), None)
}

/// What a request for a tenant comes to: `!` if it is not allowed, `?` if it has to name one.
fn asked(access: &Access, id: &str, right: Right) -> String {
    match access.tenant(id, right) {
        Ok(found) => found.unwrap_or("?").to_owned(),
        Err(Obstacle::CallerNotAllowed) => "!".to_owned(),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn what_no_rule_allows_is_not_allowed() {
    use Right::{Read, Write};
    let rules = [
        rule("cn:reader", None, &[Read]),
        rule("cn:a", Some(&["a"]), &[Read, Write]),
        rule("cn:b", Some(&["b"]), &[Read]),
        rule("cn:none", Some(&["a"]), &[]),
    ];
    for (who, id, right, expected) in [
        (&["reader"][..], "a", Read, "a"),
        (&["reader"], "b", Read, "b"),
        (&["reader"], "a", Write, "!"),
        (&["reader"], "unknown", Read, "unknown"),
        (&["reader"], "unknown", Write, "!"),
        (&["reader"], "", Read, "?"),
        (&["a"], "a", Write, "a"),
        (&["a"], "b", Read, "!"),
        (&["a"], "unknown", Read, "!"),
        (&["a"], "", Write, "a"),
        (&["b"], "", Write, "!"),
        (&["a", "b"], "", Read, "?"),
        (&["a", "b"], "a", Write, "a"),
        (&["a", "b"], "b", Write, "!"),
        (&["reader", "a"], "b", Read, "b"),
        (&["none"], "a", Read, "!"),
        (&["none"], "", Read, "!"),
        (&["stranger"], "a", Read, "!"),
        (&[], "", Read, "!"),
    ] {
        assert_eq!(asked(&access(&rules, who), id, right), expected, "{who:?} {id:?} {right:?}");
    }
}

#[test]
fn without_rules_everybody_may_do_everything_and_nobody_may_nothing() {
    let all = Rules::none(tenants(&["a"])).access(vec![Principal::Anonymous], None);
    let nobody = Access::nobody();
    for (_, right) in Right::ALL {
        assert_eq!(asked(&all, "a", right), "a");
        assert_eq!(asked(&all, "", right), "a");
        assert_eq!(asked(&all, "unknown", right), "unknown");
        assert_eq!(asked(&nobody, "a", right), "!");
    }
    assert_eq!((all.shown(), nobody.shown()), ("", ""));
    assert_eq!(access(&[], &["a", "b", "c", "d"]).shown(), "cn:a cn:b cn:c");
    for (name, shown) in [
        ("a cn:b", "\"cn:a cn:b\" cn:c"),
        ("o'neil\\é", "cn:o'neil\\é cn:c"),
        ("\u{202e}rotarepo", "\"cn:\\u{202e}rotarepo\" cn:c"),
        ("a\u{2028}b", "\"cn:a\\u{2028}b\" cn:c"),
    ] {
        assert_eq!(access(&[], &[name, "c"]).shown(), shown);
    }
}

#[test]
fn of_many_names_the_log_shows_first_those_that_rules_are_about() {
    let rules = [rule("*", None, &[Right::Read]), rule("cn:e", Some(&["a"]), &[Right::Write])];
    let access = access(&rules, &["a", "b", "c", "d", "e"]);
    assert_eq!(access.shown(), "cn:e cn:a cn:b");
}

#[test]
fn a_certificate_is_verified_once_for_each_policy_however_often_somebody_looks() {
    let authority = Arc::new(Counting::default());
    let policy = |rights: &[Right]| ListenerPolicy {
        rules: Arc::new(Rules::new(vec![rule("cn:a", None, rights)], tenants(&["a"]))),
        tokens: None,
        certificates: vec![authority.clone()],
        allows_anonymous: false,
        reflection: false,
        superseded: CancellationToken::new(),
        narrowed_from: None,
    };
    let current = CurrentPolicy::new(policy(&[Right::Watch]));
    let (generation, first) = current.get();
    let chain = vec![CertificateDer::from(vec![1])].into();
    let standing = Standing { generation, policy: first.clone(), current: current.clone(), chain };
    let access = first.rules.access(vec![Principal::CommonName("a".into())], None);
    let access = access.under(standing);
    for (round, right) in [(1, Right::Read), (2, Right::Watch)] {
        current.replace(policy(&[right]));
        for _ in 0..10 {
            assert!(access.may_use("a"));
            assert!(access.taken_back("a", right).is_none());
            assert!(access.taken_back("a", Right::Write).is_some());
        }
        assert_eq!(authority.0.load(Ordering::Relaxed), round);
    }
    current.replace(policy(&[]));
    assert!(!access.may_use("a"));
}
