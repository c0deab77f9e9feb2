//! How a gateway's certificate is checked, and what callers are told if it is wrong.

use std::{fmt::Write as _, fs};

use ccgateway_sim::{CertificateKind, Options, ServerIdentity};
use ccgateway_test_support::{AGENT, Refusal, Setup, TestBridge, refused};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tonic::Code;

const CA: &str = "[tenants.acme.tls]\nca_file = \"ca.pem\"\n";
const ANYTHING: &str = "[tenants.acme.tls]\ninsecure_skip_verify = true\n";

fn pin(identity: &ServerIdentity) -> String {
    let mut pin = String::new();
    for byte in identity.leaf_sha256() {
        write!(pin, "{byte:02X}:").expect("written");
    }
    format!("[tenants.acme.tls]\npinned_sha256 = \"{}\"\n", pin.trim_end_matches(':'))
}

async fn bridge(identity: ServerIdentity, tenant: String) -> TestBridge {
    let gateway = Options { tls: Some(identity), ..<_>::default() };
    TestBridge::with(Setup { gateway, tenant, ..<_>::default() }).await
}

#[tokio::test]
async fn certificates_are_checked_as_configured() {
    use CertificateKind::{Expired, OtherHost, SelfSigned, Signed};
    for (kind, trusted_by_ca) in
        [(Signed, true), (SelfSigned, false), (Expired, false), (OtherHost, false)]
    {
        let identity = ServerIdentity::generate(kind).expect("generated");
        let pinned = pin(&identity);
        for (tenant, good) in
            [(CA.to_owned(), trusted_by_ca), (pinned, true), (ANYTHING.to_owned(), true)]
        {
            let result = bridge(identity.clone(), tenant.clone()).await.sign_in(AGENT).await;
            if good {
                result.unwrap_or_else(|status| panic!("{kind:?} {tenant}: {status:?}"));
            } else {
                let refusal = refused(result, Code::Unavailable, "GATEWAY_UNREACHABLE", "not_sent");
                assert!(refusal.message.contains("TLS: "), "{}", refusal.message);
            }
        }
    }
}

#[tokio::test]
async fn another_certificate_than_the_pinned_one_is_refused_with_a_remedy() {
    let other = ServerIdentity::generate(CertificateKind::Signed).expect("generated");
    let own = ServerIdentity::generate(CertificateKind::Signed).expect("generated");
    let result = bridge(own, pin(&other)).await.sign_in(AGENT).await;
    let refusal = refused(result, Code::Unavailable, "GATEWAY_UNREACHABLE", "not_sent");
    assert!(refusal.message.contains("tls.pinned_sha256"), "{}", refusal.message);
}

#[tokio::test]
async fn a_gateway_that_asks_for_a_certificate_is_shown_the_configured_one() {
    let mut params = CertificateParams::new(vec![]).expect("an authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["bridge".into()]).expect("a client");
    let certificate = params.signed_by(&key, &authority).expect("signed");
    let files = TempDir::new().expect("a folder");
    let (pem, key_pem) = (files.path().join("client.pem"), files.path().join("client.key"));
    fs::write(&pem, certificate.pem()).expect("written");
    fs::write(&key_pem, key.serialize_pem()).expect("written");
    let own = format!("{CA}client_certificate_file = {pem:?}\nclient_key_file = {key_pem:?}\n");

    for (tenant, good) in [(own, true), (CA.to_owned(), false)] {
        let gateway = Options { client_ca: Some(authority.pem()), ..<_>::default() };
        let bridge = TestBridge::with(Setup { gateway, tenant, ..<_>::default() }).await;
        let result = bridge.sign_in(AGENT).await;
        if good {
            result.expect("signed in");
        } else {
            let refusal = Refusal::from(result.expect_err("no certificate"));
            assert!(
                matches!(refusal.code, Code::Unavailable | Code::Unknown),
                "{}",
                refusal.message
            );
            assert!(refusal.message.contains("CertificateRequired"), "{}", refusal.message);
        }
    }
}
