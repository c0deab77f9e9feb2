//! What makes a gateway's certificate good, and what a caller hears when it is not.

use std::fmt::Write as _;

use ccgateway_bridge::sim::{CertificateKind, Options, ServerIdentity};
use tonic::Code;

use crate::support::{AGENT, Setup, TestBridge, refused};

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
async fn certificates_are_judged_as_configured() {
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
