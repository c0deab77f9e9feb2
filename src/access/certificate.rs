use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::{Principal, principal::NAME_MAX};
use crate::certificate::{common_name, not_after};

/// Who the owner of a verified client certificate is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateIdentity {
    /// By its URIs, its DNS names and its common name.
    pub principals: Vec<Principal>,
    /// When the certificate expires.
    pub until: Option<SystemTime>,
}

/// The most names of a certificate that are looked at.
const NAMES_MAX: usize = 32;

impl CertificateIdentity {
    /// Reads the leaf of a chain that TLS has verified.
    pub fn of(chain: &[CertificateDer<'_>]) -> Self {
        let Some(leaf) = chain.first() else { return Self::default() };
        let Ok(read) = EndEntityCert::try_from(leaf) else { return Self::default() };
        let uris = read.valid_uri_names().map(|uri| Principal::Uri(uri.into()));
        let names =
            read.valid_dns_names().map(|name| Principal::Dns(name.to_ascii_lowercase().into()));
        let common = common_name(leaf).map(|name| Principal::CommonName(name.into()));
        let principals = uris.take(NAMES_MAX).chain(names.take(NAMES_MAX)).chain(common);
        let principals = principals.filter(|principal| principal.to_string().len() <= NAME_MAX);
        Self { principals: principals.collect(), until: not_after(leaf) }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

    use super::*;

    #[test]
    fn a_certificate_says_all_names_of_its_owner() {
        let mut params = CertificateParams::new(vec!["IVR.example".into()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://prod/ivr".try_into().unwrap()));
        params.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 1].into()));
        params.distinguished_name.push(DnType::CommonName, "ivr");
        params.distinguished_name.push(DnType::OrganizationName, "acme");
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let identity = CertificateIdentity::of(&[made.der().clone()]);
        let names: Vec<_> = identity.principals.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["spiffe://prod/ivr", "dns:ivr.example", "cn:ivr"]);
        assert!(identity.until.is_some_and(|until| until > SystemTime::now()));
        assert_eq!(CertificateIdentity::of(&[]), CertificateIdentity::default());
    }

    #[test]
    fn a_name_whose_bytes_only_look_like_another_is_nobodys() {
        for (name, expected) in [
            (DnValue::from("ivr"), &["cn:ivr"][..]),
            (DnValue::PrintableString("ivr".try_into().unwrap()), &["cn:ivr"]),
            (DnValue::TeletexString("ivr".try_into().unwrap()), &["cn:ivr"]),
            // Its bytes are those of "oper".
            (DnValue::BmpString("\u{6f70}\u{6572}".try_into().unwrap()), &[]),
        ] {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let identity = CertificateIdentity::of(&[made.der().clone()]);
            let names: Vec<_> = identity.principals.iter().map(ToString::to_string).collect();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn names_that_are_too_long_are_nobodys() {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "x".repeat(NAME_MAX));
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(CertificateIdentity::of(&[made.der().clone()]).principals, []);
    }
}
