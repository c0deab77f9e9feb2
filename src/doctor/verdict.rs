//! Explains why a certificate is not accepted, which one it is, and what to do.

use std::{fmt::Write as _, time::SystemTime};

use rustls::{CertificateError, pki_types::CertificateDer};

use super::{AddressCheck, printable};
use crate::{
    certificate::{Certificate, fingerprint},
    config::{Trust, section_of},
    tls::refused::Refused,
};

/// A certificate that ends sooner than this gets a warning.
const SOON_DAYS: u64 = 30;
const DAY_SECONDS: u64 = 24 * 60 * 60;
/// The indentation of a finding's text.
const INDENT: &str = "           ";

impl AddressCheck<'_> {
    pub(super) fn verdict(
        &self,
        why: &CertificateError,
        chain: &[CertificateDer<'_>],
        host: &str,
    ) -> (String, String) {
        let (found, mut remedy) = self.cause(why, chain, host);
        if let Some(leaf) = chain.first().filter(|_| remedy.contains(&self.pin())) {
            // The fingerprint is on a line of its own, so that it can be copied. Writing to a String
            // cannot fail.
            let (section, print) = (section_of(self.id), fingerprint(leaf));
            let _written =
                write!(remedy, "; in [{section}]:\n{INDENT}tls.pinned_sha256 = \"{print}\"");
        }
        (found, remedy)
    }

    fn cause(
        &self,
        why: &CertificateError,
        chain: &[CertificateDer<'_>],
        host: &str,
    ) -> (String, String) {
        let pin = self.pin();
        // The configuration accepts only one of ca_file and pinned_sha256.
        let sure = match &self.tenant.tls.trust {
            Trust::Roots(_) => {
                "in place of tls.ca_file, once you have compared it with the gateway's own"
            }
            _ => "once you have compared it with the gateway's own",
        };
        let leaf = chain.first().and_then(|der| Certificate::read(der));
        let refused = Refused::of(why);
        match &refused {
            Refused::OtherName => {
                let names = presented(why);
                let found = format!("the certificate is not for {host}, but for {names}");
                let remedy = format!(
                    "write a name of the certificate in {}, get a new certificate for {host}, or set \
                     {pin} {sure}",
                    self.key("base_urls")
                );
                (found, remedy)
            }
            Refused::Expired => {
                let end = leaf.and_then(|leaf| leaf.not_after).map(date).unwrap_or_default();
                let found = format!("the certificate has expired {end}");
                let remedy = format!(
                    "have it renewed, check this machine's clock, or set {pin}, which ignores dates, \
                     {sure}"
                );
                (found, remedy)
            }
            Refused::NotValidYet => (
                "the certificate is not valid yet".to_owned(),
                "check the clocks of this machine and of the gateway".to_owned(),
            ),
            Refused::NotPinned => (
                format!("the certificate is not the pinned one ({pin})"),
                format!(
                    "if it was renewed, set {pin} {sure}; otherwise another server answers there"
                ),
            ),
            Refused::Key(key) => (
                format!("the certificate cannot be used: {key}"),
                format!(
                    "{}; check that {} leads to the gateway",
                    key.remedy(),
                    self.key("base_urls")
                ),
            ),
            Refused::OldVersion => (
                "the certificate is of X.509 version 1 or 2, which cannot be checked with an authority"
                    .to_owned(),
                format!("get one of version 3, or set {pin} {sure}"),
            ),
            Refused::UnknownIssuer | Refused::OtherIssuerKey | Refused::OfAuthority
                if leaf.as_ref().is_some_and(|leaf| leaf.self_signed) =>
            (
                "the certificate is self-signed, so no authority vouches for it".to_owned(),
                format!("set {pin} {sure}"),
            ),
            Refused::OfAuthority => (
                "the certificate is an authority's own, not a server's".to_owned(),
                format!("get a server certificate that this authority signs, or set {pin} {sure}"),
            ),
            Refused::UnknownIssuer | Refused::OtherIssuerKey => {
                let issuer = leaf.map_or_else(|| "its issuer".to_owned(), |leaf| leaf.issuer);
                let but = match refused {
                    Refused::OtherIssuerKey => {
                        "but not with the key of the trusted authority of that name"
                    }
                    _ => "which is not trusted",
                };
                let found = format!("the certificate is signed by {issuer}, {but}");
                let remedy = format!(
                    "give the authority's current certificate as {}, and check that the gateway \
                     sends the intermediate certificates; or set {pin} {sure}",
                    self.ca_file()
                );
                (found, remedy)
            }
            Refused::SignatureAlgorithm => (
                "the certificate, or one above it, is signed with an algorithm that is too old, such \
                 as SHA-1"
                    .to_owned(),
                format!("get one that is signed with SHA-256, or set {pin} {sure}"),
            ),
            Refused::OtherPurpose => (
                "the certificate is not for servers".to_owned(),
                format!("get one with the purpose serverAuth, or set {pin} {sure}"),
            ),
            Refused::Other(error) => (
                format!("the certificate is not accepted: {error}"),
                format!("get a new certificate, or set {pin} {sure}"),
            ),
        }
    }

    /// The dotted key of the CA file.
    pub(super) fn ca_file(&self) -> String {
        self.key("tls.ca_file")
    }

    /// The dotted key of the pin.
    pub(super) fn pin(&self) -> String {
        self.key("tls.pinned_sha256")
    }
}

/// A short description of a certificate chain.
pub(super) fn described(chain: &[CertificateDer<'_>]) -> String {
    let Some(leaf) = chain.first() else { return "no certificate".to_owned() };
    let mut text = match chain.len() {
        1 => "1 certificate".to_owned(),
        many => format!("{many} certificates"),
    };
    // Writing to a String cannot fail.
    if let Some(read) = Certificate::read(leaf) {
        let _written = write!(text, ", for {} by {}", read.subject, read.issuer);
        if let Some(end) = read.not_after {
            let _written = write!(text, ", until {}", date(end));
        }
    }
    let _written = write!(text, ", SHA-256 {}", fingerprint(leaf));
    text
}

/// In how many days the leaf ends, as text, if it ends soon.
pub(super) fn ends_soon(chain: &[CertificateDer<'_>]) -> Option<String> {
    let end = Certificate::read(chain.first()?)?.not_after?;
    let left = end.duration_since(SystemTime::now()).ok()?.as_secs() / DAY_SECONDS;
    (left < SOON_DAYS).then(|| format!("it ends in {left} days"))
}

fn date(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// The names in the certificate, which rustls gives as `DnsName("…")`.
fn presented(why: &CertificateError) -> String {
    let CertificateError::NotValidForNameContext { presented, .. } = why else {
        return "another name".to_owned();
    };
    let bare = |name: &String| {
        let inside = name.split_once('(').map_or(name.as_str(), |(_, inside)| inside);
        printable(inside.trim_end_matches(')').trim_matches('"'))
    };
    let names: Vec<_> = presented.iter().map(bare).collect();
    if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") }
}
