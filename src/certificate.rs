//! Reads from a certificate what people want to know (DER: X.690; fields: RFC 5280).

mod usable_key;

use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};

pub(crate) use self::usable_key::{RSA_BITS_MIN, UnusableKey};
use crate::hex::hex;

/// The content of a certificate, for people. Nothing is verified here; TLS does that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// The subject's common name, or else its organisation.
    pub(crate) subject: String,
    /// The same for the issuer.
    pub(crate) issuer: String,
    /// Whether subject and issuer are the same.
    pub(crate) self_signed: bool,
    /// When the certificate expires.
    pub(crate) not_after: Option<SystemTime>,
}

/// The public key of a certificate, as it is encoded there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey<'a> {
    /// The whole SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).
    pub(crate) info: &'a [u8],
    /// The content of its algorithm identifier.
    pub(crate) algorithm: &'a [u8],
    /// The key itself.
    pub(crate) bits: &'a [u8],
    /// The length of an RSA modulus; `None` for other keys.
    pub(crate) rsa_bits: Option<usize>,
}

/// The longest name, in characters.
const NAME_MAX: usize = 200;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
/// PrintableString, TeletexString and IA5String, in which each byte below 128 is a character of ASCII.
const ASCII_STRINGS: [u8; 3] = [0x13, 0x14, 0x16];
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version field. Certificates of version 1 do not have it.
const VERSION: u8 = 0xa0;
/// The object ids of the common name (2.5.4.3) and the organisation (2.5.4.10).
const NAMES: [&[u8]; 2] = [&[0x55, 0x04, 0x03], &[0x55, 0x04, 0x0a]];

/// The algorithm identifier of RSA keys begins with this object id (1.2.840.113549.1.1.1).
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// The fingerprint in the format of `tls.pinned_sha256`.
pub(crate) fn fingerprint(der: &[u8]) -> String {
    hex(digest(&SHA256, der).as_ref())
}

/// When a certificate expires. `None` if `der` is not a certificate.
pub(crate) fn not_after(der: &[u8]) -> Option<SystemTime> {
    Certificate::read(der)?.not_after
}

/// The common name of a certificate's subject, as it is there. `None` if it has none, or if it is no
/// text in UTF-8 or ASCII.
pub(crate) fn common_name(der: &[u8]) -> Option<String> {
    let mut fields = fields_from_issuer(der)?;
    let [_issuer, _validity] = [(); 2].map(|()| fields.expect(SEQUENCE));
    let [common_name, _organisation] = NAMES;
    let (kind, text) = attribute(fields.expect(SEQUENCE)?, common_name)?;
    // The bytes of a name in UTF-16 may be those of quite another one in ASCII.
    let is_ascii = ASCII_STRINGS.contains(&kind) && text.is_ascii();
    if kind != UTF8_STRING && !is_ascii {
        return None;
    }
    let is_text = |text: &&str| !text.is_empty() && !text.contains(char::is_control);
    str::from_utf8(text).ok().filter(is_text).map(str::to_owned)
}

impl Certificate {
    /// `None` if `der` is not a certificate.
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let mut fields = fields_from_issuer(der)?;
        let issuer = fields.expect(SEQUENCE)?;
        let mut validity = Der(fields.expect(SEQUENCE)?);
        let subject = fields.expect(SEQUENCE)?;
        let _not_before = validity.next()?;
        let (kind, end) = validity.next()?;
        Some(Self {
            subject: name(subject),
            issuer: name(issuer),
            self_signed: subject == issuer,
            not_after: time(kind, end),
        })
    }
}

impl<'a> PublicKey<'a> {
    /// `None` if `der` is not a certificate.
    pub(crate) fn of(der: &'a [u8]) -> Option<Self> {
        let mut fields = fields_from_issuer(der)?;
        let [_issuer, _validity, _subject] = [(); 3].map(|()| fields.expect(SEQUENCE));
        let rest = fields.0;
        let mut parts = Der(fields.expect(SEQUENCE)?);
        let info = rest.get(..rest.len() - fields.0.len())?;
        let algorithm = parts.expect(SEQUENCE)?;
        // Keys are whole bytes, so that no bits of the last one are unused.
        let bits = parts.expect(BIT_STRING)?.strip_prefix(&[0])?;
        let rsa_bits = algorithm.starts_with(RSA).then(|| modulus_bits(bits)).flatten();
        Some(Self { info, algorithm, bits, rsa_bits })
    }
}

/// How many bits the modulus of an RSA key has.
fn modulus_bits(key: &[u8]) -> Option<usize> {
    let modulus = Der(Der(key).expect(SEQUENCE)?).expect(INTEGER)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(zeros)?;
    Some((modulus.len() - zeros) * 8 - first.leading_zeros() as usize)
}

/// The fields of a certificate after its version, serial number and algorithm.
fn fields_from_issuer(der: &[u8]) -> Option<Der<'_>> {
    let mut outer = Der(Der(der).expect(SEQUENCE)?);
    let mut fields = Der(outer.expect(SEQUENCE)?);
    let (mut tag, _version_or_serial) = fields.next()?;
    if tag == VERSION {
        (tag, _) = fields.next()?;
    }
    // The last field was the serial number. The algorithm follows.
    let _algorithm = (tag == INTEGER).then(|| fields.expect(SEQUENCE))??;
    Some(fields)
}

/// The first known name in a list of relative names. Each of these is a set of pairs of type and
/// text.
fn name(rdns: &[u8]) -> String {
    let found = NAMES.iter().find_map(|wanted| attribute(rdns, wanted));
    found.map_or_else(|| "nobody".to_owned(), |(_, text)| shown(&String::from_utf8_lossy(text)))
}

/// Control characters are removed, since the text comes from the certificate's author.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect()
}

/// The kind of text that an attribute is, and its bytes.
fn attribute<'a>(rdns: &'a [u8], wanted: &[u8]) -> Option<(u8, &'a [u8])> {
    let mut rdns = Der(rdns);
    while let Some(set) = rdns.expect(SET) {
        let mut pair = Der(Der(set).expect(SEQUENCE)?);
        if pair.expect(OBJECT_ID)? == wanted {
            return pair.next();
        }
    }
    None
}

/// Reads `YYMMDDHHMMSSZ`, where years from 50 on are in the last century, or `YYYYMMDDHHMMSSZ`.
fn time(kind: u8, text: &[u8]) -> Option<SystemTime> {
    let text = str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let digits = match kind {
        UTC_TIME if text >= "50" => format!("19{text}"),
        UTC_TIME => format!("20{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| digits.get(from..to);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    humantime::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).ok()
}

/// The unread rest of DER data.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element's tag and content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (length, rest) = rest.split_first()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(*length), rest),
            // The low bits say how many bytes of length follow. Certificates need two.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
                (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }

    /// The next element's content, if it has this tag.
    fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
    }
}

// The tests take their certificates from the simulator.
#[cfg(test)]
mod tests {
    use ccgateway_sim::{CertificateKind, ServerIdentity};
    use proptest::prelude::*;
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};

    use super::*;

    fn of(kind: CertificateKind) -> Certificate {
        let identity = ServerIdentity::generate(kind).unwrap();
        let der = CertificateDer::from_pem_slice(identity.trust_pem().as_bytes()).unwrap();
        Certificate::read(&der).expect("a certificate")
    }

    #[test]
    fn names_and_end_of_a_certificate_are_read() {
        let own = of(CertificateKind::SelfSigned);
        assert_eq!((own.subject.as_str(), own.issuer.as_str()), ("localhost", "localhost"));
        assert!(own.self_signed);
        let end = humantime::parse_rfc3339("2049-12-31T00:00:00Z").unwrap();
        assert_eq!(own.not_after, Some(end));
        assert_eq!(of(CertificateKind::Signed).subject, "ccgateway-sim CA");
    }

    #[test]
    fn the_public_key_is_found_where_the_certificate_has_it() {
        let identity = ServerIdentity::generate(CertificateKind::SelfSigned).unwrap();
        let der = CertificateDer::from_pem_slice(identity.trust_pem().as_bytes()).unwrap();
        let key = PublicKey::of(&der).expect("a key");
        // An uncompressed point of P-256 (RFC 5480).
        assert_eq!((key.bits.len(), key.bits.first(), key.rsa_bits), (65, Some(&4), None));
        assert!(key.info.starts_with(&[SEQUENCE]) && key.info.ends_with(key.bits));
        assert_eq!(PublicKey::of(&der[..der.len() / 2]), None);
    }

    #[test]
    fn the_modulus_of_an_rsa_key_is_measured_without_its_leading_zeros() {
        for (key, expected) in [
            (&[0x30, 6, 0x02, 3, 0, 0x80, 1, 0x02][..], Some(16)),
            (&[0x30, 4, 0x02, 2, 0x01, 0xff], Some(9)),
            (&[0x30, 3, 0x02, 1, 0], None),
            (&[0x30, 2, 0x04, 0], None),
        ] {
            assert_eq!(modulus_bits(key), expected, "{key:?}");
        }
    }

    #[test]
    fn both_forms_of_time_are_read() {
        let text = |time| humantime::format_rfc3339_seconds(time).to_string();
        for (kind, given, expected) in [
            (UTC_TIME, "240101000000Z", Some("2024-01-01T00:00:00Z")),
            (UTC_TIME, "991231235959Z", Some("1999-12-31T23:59:59Z")),
            (GENERALIZED_TIME, "20991231235959Z", Some("2099-12-31T23:59:59Z")),
            (GENERALIZED_TIME, "99991331235959Z", None),
            (UTC_TIME, "ä0101000000Z", None),
            (INTEGER, "240101000000Z", None),
        ] {
            assert_eq!(time(kind, given.as_bytes()).map(text).as_deref(), expected, "{given}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _read = (Certificate::read(&bytes), PublicKey::of(&bytes));
        }
    }
}
