use ccgateway_test_support::{Certificate, Setup, TestBridge};
use tempfile::TempDir;

use super::{
    HEALTH, PERMISSION_DENIED, REFLECTION, UNAUTHENTICATED,
    authority::{Authority, Shown, tls},
    list_services,
    peer::Peer,
    requests,
};

const OWN: &str = "spiffe://prod/ns/ivr/sa/acme";

/// A bridge that knows who may use tenant `acme`, and nobody who may use `other`.
struct Place {
    bridge: TestBridge,
    own: Certificate,
    trusted: Authority,
    foreign: Authority,
    _files: TempDir,
}

/// What a caller is told at the three tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// TLS or the connection fails.
    NoConnection,
    /// UNAUTHENTICATED, whatever it asks; health is answered.
    Unknown,
    /// PERMISSION_DENIED for every tenant; health and reflection are answered.
    NoRight,
    /// As `NoRight`, but for `acme`.
    Acme,
}

impl Place {
    async fn open(client_certificates: &str) -> Self {
        let files = TempDir::new().expect("a folder");
        let own = Certificate::of("localhost", files.path());
        let [trusted, foreign] =
            ["trusted", "foreign"].map(|name| Authority::new(name, files.path()));
        let settings = format!(
            "listeners.default.tls = {{ certificate_file = {:?}, key_file = {:?}, client_ca_file = {:?}, \
             client_certificates = {client_certificates:?} }}\n\
             callers.ivr = {{ principals = [\"{OWN}\"], tenants = [\"acme\"], rights = [\"*\"] }}\n\
             tenants.other.base_urls = [\"https://gateway.other.example\"]",
            own.pem, own.key, trusted.pem,
        );
        let bridge = TestBridge::with(Setup { settings, ..<_>::default() }).await;
        Self { bridge, own, trusted, foreign, _files: files }
    }

    async fn peer(&self, shown: Option<Shown>) -> Result<Peer, String> {
        Peer::connect(self.bridge.bridge.grpc_addr(), Some(tls(&self.own, shown))).await
    }

    /// Asks everything for each tenant, with what `shown` makes.
    async fn check(&self, case: &str, shown: impl Fn() -> Option<Shown>, expected: Expected) {
        if expected == Expected::NoConnection {
            let told = match self.peer(shown()).await {
                Ok(mut peer) => peer.call(HEALTH, &[], &[]).await,
                Err(error) => Err(error),
            };
            assert!(told.is_err(), "{case}: {told:?}");
            return;
        }
        let mut peer = self.peer(shown()).await.expect("connected");
        let health = peer.call(HEALTH, &[], &[]).await.expect("an answer");
        assert_eq!(health.code(), "0", "{case}: health");
        let reflection = peer.call(REFLECTION, &list_services(), &[]).await.expect("an answer");
        let known = if expected == Expected::Unknown { UNAUTHENTICATED } else { "0" };
        assert_eq!(reflection.code(), known, "{case}: reflection");
        let [acme, other, nobody] = ["acme", "other", "nobody"].map(requests);
        for (at, (path, _, message)) in acme.iter().enumerate() {
            let own = peer.call(path, message, &[]).await.expect("an answer");
            let foreign = peer.call(path, &other[at].2, &[]).await.expect("an answer");
            let unknown = peer.call(path, &nobody[at].2, &[]).await.expect("an answer");
            assert_eq!(foreign, unknown, "{case}: {path}: whether there is such a tenant shows");
            match expected {
                Expected::Acme => {
                    assert!(
                        ![UNAUTHENTICATED, PERMISSION_DENIED].contains(&own.code()),
                        "{case}: {path}: {own:?}"
                    );
                    assert_eq!(foreign.code(), PERMISSION_DENIED, "{case}: {path}");
                }
                Expected::NoRight => {
                    assert_eq!(own.code(), PERMISSION_DENIED, "{case}: {path}");
                    assert_eq!(own, foreign, "{case}: {path}");
                }
                Expected::Unknown => {
                    assert_eq!(own.code(), UNAUTHENTICATED, "{case}: {path}");
                    assert_eq!(own, foreign, "{case}: {path}");
                }
                Expected::NoConnection => unreachable!("it returned above"),
            }
        }
    }
}

#[tokio::test]
async fn a_certificate_opens_what_the_rules_say_and_nothing_else() {
    for (client_certificates, without) in
        [("required", Expected::NoConnection), ("optional", Expected::Unknown)]
    {
        let place = Place::open(client_certificates).await;
        let case = |case: &str| format!("{client_certificates}: {case}");
        place.check(&case("no certificate"), || None, without).await;
        let foreign = || Some(place.foreign.issue(OWN, true));
        place.check(&case("wrong CA"), foreign, Expected::NoConnection).await;
        let expired = || Some(place.trusted.issue(OWN, false));
        place.check(&case("expired"), expired, Expected::NoConnection).await;
        let wrong = || Some(place.trusted.issue("spiffe://prod/ns/ivr/sa/acme2", true));
        place.check(&case("wrong name"), wrong, Expected::NoRight).await;
        assert!(
            place.bridge.gateway.journal().is_empty(),
            "nothing is asked for those who may not"
        );
        let right = || Some(place.trusted.issue(OWN, true));
        place.check(&case("right name"), right, Expected::Acme).await;
    }
}

#[tokio::test]
async fn who_names_no_tenant_means_the_only_one_that_it_may_use() {
    let place = Place::open("required").await;
    let mut own = place.peer(Some(place.trusted.issue(OWN, true))).await.expect("connected");
    let mut other =
        place.peer(Some(place.trusted.issue("spiffe://x/y", true))).await.expect("connected");
    for (path, _, message) in requests("") {
        let told = own.call(&path, &message, &[]).await.expect("an answer");
        assert!(![UNAUTHENTICATED, PERMISSION_DENIED].contains(&told.code()), "{path}: {told:?}");
        let told = other.call(&path, &message, &[]).await.expect("an answer");
        assert_eq!(told.code(), PERMISSION_DENIED, "{path}");
    }
}
