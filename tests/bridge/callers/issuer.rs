//! An issuer of tokens, which is written without the library that the bridge verifies them with.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize, PublicKeyComponents},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// A key pair that signs tokens.
pub(super) enum Signer {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

impl Signer {
    pub(super) fn es256() -> Self {
        Self::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
    }

    pub(super) fn ed_dsa() -> Self {
        Self::EdDsa(Ed25519KeyPair::generate().expect("a key"))
    }

    pub(super) fn rs256() -> Self {
        Self::Rs256(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"))
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Es256(_) => "ES256",
            Self::EdDsa(_) => "EdDSA",
            Self::Rs256(_) => "RS256",
        }
    }

    /// Its public key as a JSON Web Key.
    pub(super) fn jwk(&self, id: &str) -> Value {
        let encode = |bytes: &[u8]| BASE64.encode(bytes);
        match self {
            Self::Es256(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": id, "x": encode(x), "y": encode(y)})
            }
            Self::EdDsa(key) => {
                let x = encode(key.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig", "x": x})
            }
            Self::Rs256(key) => {
                let public: PublicKeyComponents<Vec<u8>> = key.public_key().into();
                let (n, e) = (encode(&public.n), encode(&public.e));
                json!({"kty": "RSA", "kid": id, "alg": "RS256", "use": "sig", "n": n, "e": e})
            }
        }
    }

    /// What somebody who only has the public key could take for a shared secret.
    pub(super) fn public_bytes(&self) -> Vec<u8> {
        match self {
            Self::Es256(key) => key.public_key().as_ref().to_vec(),
            Self::EdDsa(key) => key.public_key().as_ref().to_vec(),
            Self::Rs256(key) => {
                let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> =
                    aws_lc_rs::encoding::AsDer::as_der(key.public_key()).expect("DER");
                der.as_ref().to_vec()
            }
        }
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        let (text, random) = (text.as_bytes(), SystemRandom::new());
        match self {
            Self::Es256(key) => key.sign(&random, text).expect("signed").as_ref().to_vec(),
            Self::EdDsa(key) => key.sign(text).as_ref().to_vec(),
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature).expect("signed");
                signature
            }
        }
    }

    /// A token with this header and these claims.
    pub(super) fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let signature = BASE64.encode(self.sign(&signed));
        format!("{signed}.{signature}")
    }
}

/// A token without its signature.
pub(super) fn unsigned(header: &Value, claims: &Value) -> String {
    let [header, claims] = [header, claims].map(|json| BASE64.encode(json.to_string()));
    format!("{header}.{claims}")
}

/// A token that is signed with a shared secret.
pub(super) fn with_secret(secret: &[u8], header: &Value, claims: &Value) -> String {
    let signed = unsigned(header, claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", BASE64.encode(tag))
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A server with a key set that can be changed, and that counts who asks for it.
pub(super) struct KeyServer {
    pub(super) url: String,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
        let (answer, asked) = (Arc::<Mutex<String>>::default(), Arc::<AtomicUsize>::default());
        let (answers, counts) = (answer.clone(), asked.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _request = stream.read(&mut [0; 4096]).await;
                counts.fetch_add(1, Ordering::Relaxed);
                let body = answers.lock().expect("no panic").clone();
                let _sent = stream.write_all(body.as_bytes()).await;
            }
        });
        Self { url, answer, asked }
    }

    /// One that takes requests and never answers.
    pub(super) async fn silent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
        let asked = Arc::<AtomicUsize>::default();
        let counts = asked.clone();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _request = stream.read(&mut [0; 4096]).await;
                counts.fetch_add(1, Ordering::Relaxed);
                open.push(stream);
            }
        });
        Self { url, answer: Arc::default(), asked }
    }

    /// Answers with these keys from now on.
    pub(super) fn has(&self, keys: &[Value]) {
        let body = json!({ "keys": keys }).to_string();
        self.says(&format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ));
    }

    /// Answers so from now on.
    pub(super) fn says(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().expect("no panic"));
    }

    /// How often it was asked.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}
