use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ccgateway_bridge::{
    access::{
        Principal,
        tokens::{Issuer, KeySet, KeySource, Keys, Reading, Tokens, VerifiedToken},
    },
    call::Unidentified,
    config::{self, KeysPlace},
};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

/// The public keys of the issuer. The private one of the first signs here; nobody has those of the others.
const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/key_set/issuer");
const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "ccgateway-bridge";
const HEAD: &str = r#"{"alg":"EdDSA","kid":"first"}"#;
const LEEWAY: Duration = Duration::from_secs(60);

static TRIAL: LazyLock<Trial> = LazyLock::new(Trial::new);

struct Trial {
    runtime: Runtime,
    tokens: Tokens,
    key: Ed25519KeyPair,
}

/// A key set: it has the keys that can verify a signature and no others, above all no shared secret, and not too many.
pub fn key_set(data: &[u8]) {
    let Ok(keys) = KeySet::parse(data) else { return };
    assert!((1..=64).contains(&keys.len()));
    assert_eq!(format!("{keys:?}"), format!("KeySet({})", keys.len()));
    let json: Value = serde_json::from_slice(data).expect("what is read is JSON");
    // serde also takes a list of the members.
    let named = json.get("keys").or_else(|| json.get(0)).and_then(Value::as_array);
    let named = named.expect("a list");
    let usable = named.iter().filter(|key| {
        let is =
            |name: &str, values: &[&str]| key[name].as_str().is_some_and(|it| values.contains(&it));
        let is_strong = || key["n"].as_str().is_some_and(|n| n.len() >= 4 * 256 / 3);
        let is_for_signatures = key["use"].is_null() || is("use", &["sig"]);
        is_for_signatures && (is("kty", &["EC", "OKP"]) || (is("kty", &["RSA"]) && is_strong()))
    });
    assert!(keys.len() <= usable.count(), "{json}");
    let again = KeySet::parse(json.to_string().as_bytes()).map(|again| again.len());
    assert_eq!(again, Ok(keys.len()));
}

/// A caller's token. The first byte says what the others are: a token; the claims of one that the issuer has signed; its
/// head and its claims, each on a line; or the subject of a good one.
///
/// Whoever is known by a token has one that the issuer has signed, for this bridge, for now, and with this subject. A good
/// token is taken, and none that differs from it in a byte.
pub fn token(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    match choice % 4 {
        0 => {
            if let Ok(token) = str::from_utf8(rest) {
                TRIAL.check(token);
            }
        }
        1 => TRIAL.check(&TRIAL.signed(HEAD.as_bytes(), rest)),
        2 => {
            let mut lines = rest.splitn(2, |byte| *byte == b'\n');
            let [head, claims] = [(); 2].map(|()| lines.next().unwrap_or_default());
            TRIAL.check(&TRIAL.signed(head, claims));
        }
        _ => TRIAL.good(&String::from_utf8_lossy(rest), usize::from(*choice)),
    }
}

impl Trial {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
        let keys = runtime.block_on(async {
            let source = KeySource::of(&KeysPlace::File(KEYS.into())).expect("a source");
            let interval = Duration::from_secs(24 * 60 * 60);
            let reading = Reading { source: Arc::new(source), interval };
            let keys = Keys::new("trial", reading.clone());
            keys.follow(reading);
            keys.newer().await;
            keys
        });
        assert_eq!(keys.current().len(), 3, "the keys of the issuer");
        let settings = config::Issuer {
            issuer: ISSUER.into(),
            audiences: vec!["other".into(), AUDIENCE.into()],
            algorithms: vec![Algorithm::EdDSA, Algorithm::RS256, Algorithm::ES256],
            leeway: LEEWAY,
            keys: KeysPlace::File(KEYS.into()),
            key_set: None,
            refresh: Duration::from_secs(60),
        };
        let tokens = Tokens::of(vec![Arc::new(Issuer::new("trial", &settings, keys))]);
        Self { runtime, tokens, key }
    }

    fn signed(&self, head: &[u8], claims: &[u8]) -> String {
        let [head, claims] = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        let signed = format!("{head}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn verify(&self, token: &str) -> Result<VerifiedToken, Unidentified> {
        self.runtime.block_on(self.tokens.verify(token))
    }

    /// A second reading of whatever is taken.
    fn check(&self, token: &str) {
        let Ok(verified) = self.verify(token) else { return };
        let parts: Vec<_> = token.split('.').collect();
        let [head, claims, signature] = *parts else { panic!("{token} has no three parts") };
        let signed = format!("{head}.{claims}");
        let decode = |part| URL_SAFE_NO_PAD.decode(part).expect("base64");
        let key = UnparsedPublicKey::new(&ED25519, self.key.public_key().as_ref());
        assert_eq!(key.verify(signed.as_bytes(), &decode(signature)), Ok(()), "{token} is forged");
        let json = |part| serde_json::from_slice::<Value>(&decode(part)).expect("JSON");
        let (head, claims) = (json(head), json(claims));
        assert_eq!(head["alg"], "EdDSA");
        assert_eq!(claims["iss"], ISSUER);
        let audiences = claims["aud"].as_array().cloned();
        let audiences = audiences.unwrap_or_else(|| vec![claims["aud"].clone()]);
        assert!(audiences.iter().any(|it| it == AUDIENCE || it == "other"), "{claims}");
        let now = SystemTime::now();
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let time = |name| claims.get(name).and_then(Value::as_f64);
        assert!(time("exp").expect("an end") > seconds - 62.0, "{claims}");
        assert!(time("nbf").is_none_or(|nbf| nbf < seconds + 62.0), "{claims}");
        assert!(verified.until > now - Duration::from_secs(2), "{claims}");
        let Principal::Token { issuer, subject } = verified.principal else { panic!("{claims}") };
        assert_eq!((&*issuer, Some(&*subject)), ("trial", claims["sub"].as_str()));
        assert!((1..=512).contains(&subject.len()));
    }

    fn good(&self, subject: &str, at: usize) {
        let claims =
            json!({ "iss": ISSUER, "aud": AUDIENCE, "exp": 4_000_000_000_u64, "sub": subject });
        let token = self.signed(HEAD.as_bytes(), claims.to_string().as_bytes());
        self.check(&token);
        let is_good = (1..=512).contains(&subject.len());
        let verified = self.verify(&token);
        assert_eq!(verified.as_ref().err(), (!is_good).then_some(&Unidentified::Subject));

        let mut known = HashSet::new();
        for at in [at * token.len() / 256, token.len() - 1 - at % 86] {
            for other in ["A", "_", "=", ".", ""] {
                let changed = format!("{}{other}{}", &token[..at], &token[at + 1..]);
                if changed != token && known.insert(changed.clone()) {
                    assert!(self.verify(&changed).is_err(), "{changed} is taken, as is {token}");
                }
            }
        }
    }
}
