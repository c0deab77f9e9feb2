//! `[tenants.<id>.tls]`.

use ::aws_lc_rs::digest;
use rustls::{crypto::aws_lc_rs, pki_types::CertificateDer};

use super::{
    error::{Problem, quote},
    files::Identity,
    reader::Section,
};
use crate::{
    certificate::{PublicKey, RSA_BITS_MIN},
    hex::unhex,
};

/// TLS towards a peer that the bridge connects to.
#[derive(Debug)]
pub struct ClientTls {
    /// How the peer's certificate is checked.
    pub trust: Trust,
    /// The bridge's own certificate, for a peer that asks for one.
    pub client: Option<Identity>,
}

/// How a peer's certificate is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It chains to a root of the system and names the host.
    SystemRoots,
    /// It chains to one of these certificates and names the host. `tls.ca_file`.
    Roots(Vec<CertificateDer<'static>>),
    /// The SHA-256 of the leaf certificate is one of these. Neither name nor dates are checked.
    /// `tls.pinned_certificate_file`, `tls.pinned_sha256`.
    Pinned(Vec<[u8; 32]>),
    /// Any certificate is accepted. `tls.insecure_skip_verify`.
    Anything,
}

/// The keys of the ways to check a certificate. Only one way may be used; the two `pinned_…` keys
/// belong to the same way.
const WAYS: [&[&str]; 3] =
    [&["ca_file"], &["pinned_certificate_file", "pinned_sha256"], &["insecure_skip_verify"]];

/// The most pins: the nodes of a cluster may each have a certificate, and one that will replace it.
const PINS_MAX: usize = 64;

pub(super) fn gateway_tls(section: &Section<'_>, tenant: &str) -> ClientTls {
    let roots = section.roots("ca_file", "the gateway's CA certificate");
    let pins = pins(section);
    let anything = section.truth("insecure_skip_verify", false);
    check_one_way(section, anything);
    if anything {
        section.notes().warn(format!(
            "tenant {tenant}: {}.insecure_skip_verify is true: ANYBODY ON THE NETWORK CAN POSE AS \
             THE GATEWAY and read passwords and Guids; give ca_file or pinned_certificate_file instead",
            section.key()
        ));
    }
    let trust = match (roots, pins) {
        _ if anything => Trust::Anything,
        (Some(roots), _) => Trust::Roots(roots),
        (None, pins) if !pins.is_empty() => Trust::Pinned(pins),
        (None, _) => Trust::SystemRoots,
    };
    ClientTls { trust, client: section.identity("client_certificate_file", "client_key_file") }
}

fn check_one_way(section: &Section<'_>, anything: bool) {
    let given = |key: &&&'static str| match **key {
        "insecure_skip_verify" => anything,
        key => section.has(key),
    };
    let ways: Vec<&'static str> =
        WAYS.iter().filter_map(|way| way.iter().find(given)).copied().collect();
    let Some((last, others)) = ways.split_last().filter(|(_, others)| !others.is_empty()) else {
        return;
    };
    section.contradiction(
        &[*last],
        Problem::new(
            format!("contradicts {}", others.join(" and ")),
            "give only one way to check the gateway's certificate",
        ),
    );
}

fn pins(section: &Section<'_>) -> Vec<[u8; 32]> {
    let file = "pinned_certificate_file";
    let certificate = section
        .certificates(file, "the gateway's own certificate")
        .and_then(|certificates| certificates.into_iter().next())
        .and_then(|leaf| section.read(file, |_| check_key(section, &leaf).map(|()| leaf)))
        .and_then(|leaf| sha256(&leaf));
    let hashes = section.list("pinned_sha256", PINS_MAX, hash);
    let mut pins = hashes.unwrap_or_default();
    pins.extend(certificate);
    pins.sort_unstable();
    pins.dedup();
    pins
}

/// Checks that a handshake with the certificate's key can succeed. Warns of one that may fail, and that
/// can be broken.
fn check_key(section: &Section<'_>, leaf: &CertificateDer<'_>) -> Result<(), Problem> {
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let key = PublicKey::usable(leaf, &algorithms).map_err(|why| {
        Problem::new(format!("the certificate cannot be used: {why}"), why.remedy())
    })?;
    if let Some(bits) = key.rsa_bits.filter(|bits| *bits < RSA_BITS_MIN) {
        section.notes().warn(format!(
            "{}.pinned_certificate_file: the certificate has an RSA key of only {bits} bits, which works \
             only with TLS 1.2 and PKCS #1 signatures; ask the gateway's operator for one of \
             {RSA_BITS_MIN} bits",
            section.key()
        ));
    }
    Ok(())
}

fn sha256(der: &[u8]) -> Option<[u8; 32]> {
    digest::digest(&digest::SHA256, der).as_ref().try_into().ok()
}

fn hash(text: &str) -> Result<[u8; 32], Problem> {
    let bytes = unhex(&text.replace(':', ""));
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        Problem::new(
            format!("{} is not a SHA-256 hash", quote(text)),
            "give 64 hexadecimal digits, as \"openssl x509 -noout -fingerprint -sha256\" prints",
        )
    })
}
