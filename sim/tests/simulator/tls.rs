//! Certificates of both sides.

use std::io;

use ccgateway_sim::{CertificateKind, Options, ServerIdentity, Simulator};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::client::{Client, Reply};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The answer to a client with a certificate of this authority.
async fn asked_as(sim: &Simulator, authority: &Authority) -> io::Result<Reply> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["client".into()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    ask(Client::connect_as(sim, &certificate, &key).await?).await
}

async fn ask(mut client: Client) -> io::Result<Reply> {
    client.send("GET onlineagent/7/agentstatus", "", "").await?;
    client.receive().await
}

#[tokio::test]
async fn bad_certificates_fail_the_handshake() {
    for kind in [CertificateKind::Expired, CertificateKind::OtherHost, CertificateKind::SelfSigned]
    {
        let tls = Some(ServerIdentity::generate(kind).unwrap());
        let options = Options { tls, ..Options::default() };
        let sim = Simulator::start(options).await.unwrap();
        let error = Client::connect(&sim).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{kind:?}");
        assert_ne!(sim.leaf_sha256(), [0; 32]);
    }
}

#[tokio::test]
async fn client_certificates_are_required_if_configured() {
    let (own, other) = (authority(), authority());
    let options = Options { client_ca: Some(own.pem()), ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();

    assert_eq!(asked_as(&sim, &own).await.unwrap().retcode(), "100-006");
    assert!(asked_as(&sim, &other).await.is_err());
    // In TLS 1.3 a client learns of it after its own part of the handshake.
    let without = async { ask(Client::connect(&sim).await?).await };
    assert!(without.await.is_err());
    assert_eq!(sim.journal().len(), 1);
}

#[tokio::test]
async fn client_certificates_are_not_needed_otherwise() {
    let sim = super::start().await;
    assert_eq!(asked_as(&sim, &authority()).await.unwrap().retcode(), "100-006");
}

#[tokio::test]
async fn the_simulator_does_not_start_with_an_empty_client_ca() {
    let options = Options { client_ca: Some(String::new()), ..Options::default() };
    let error = Simulator::start(options).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}
