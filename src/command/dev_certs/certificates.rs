use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, Error, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

/// A CA's certificate and those of a bridge and of a caller, all in PEM.
pub(super) struct Certificates {
    pub(super) ca: String,
    pub(super) server: Leaf,
    pub(super) client: Leaf,
}

/// A certificate that the CA has signed.
pub(super) struct Leaf {
    pub(super) certificate: String,
    pub(super) key: String,
}

type Ca = CertifiedIssuer<'static, KeyPair>;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const VALID_FOR: Duration = DAY.saturating_mul(30);
/// Certificates are valid from this long ago, for machines whose clocks are slow.
const BACKDATED: Duration = Duration::from_secs(60 * 60);
/// The caller's DNS name.
const CALLER: &str = "caller.dev.example";

impl Certificates {
    /// Makes them for a bridge with these names and addresses, and for a caller with this SPIFFE id. The
    /// CA's key is lost, so that nobody can make more of them. `now` is since 1970.
    pub(super) fn make(hosts: &[String], spiffe_id: &str, now: Duration) -> Result<Self, Error> {
        let mut params = params(&[], "ccgateway-bridge dev-certs CA", now)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

        let mut server = self::params(hosts, "ccgateway-bridge", now)?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let mut client = self::params(&[CALLER.to_owned()], "dev-caller", now)?;
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        client.subject_alt_names.push(SanType::URI(spiffe_id.try_into()?));
        let [server, client] = [server, client].map(|params| Leaf::signed_by(&ca, params));
        Ok(Self { ca: ca.as_ref().pem(), server: server?, client: client? })
    }
}

impl Leaf {
    fn signed_by(ca: &Ca, mut params: CertificateParams) -> Result<Self, Error> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Strict clients, such as Python's from 3.13 on, want it.
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, ca)?.pem();
        Ok(Self { certificate, key: key.serialize_pem() })
    }
}

fn params(names: &[String], common_name: &str, now: Duration) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + (now + VALID_FOR);
    Ok(params)
}
