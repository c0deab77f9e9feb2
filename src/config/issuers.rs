//! `[issuers.<name>]`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use http::{Uri, uri::Scheme};
use jsonwebtoken::Algorithm;

use super::{
    Trust,
    error::{Problem, quote},
    files,
    listeners::is_name,
    reader::Section,
    scalar::{self, HOUR, MINUTE, SECOND, is_this_machine},
};
use crate::access::tokens::KeySet;

/// Somebody who signs tokens (JWT) for callers.
#[derive(Debug)]
pub struct Issuer {
    /// Its name in tokens, the claim `iss`. `issuer`.
    pub issuer: String,
    /// Whom a token has to be for: its claim `aud` has one of these. `audiences`.
    pub audiences: Vec<String>,
    /// How tokens may be signed; never with a shared secret. `algorithms`.
    pub algorithms: Vec<Algorithm>,
    /// How far the clocks may differ. `leeway`.
    pub leeway: Duration,
    /// Where its keys are. `jwks_file`, `jwks_url`.
    pub keys: KeysPlace,
    /// The keys that are in its file; `None`: they are on a server.
    pub key_set: Option<KeySet>,
    /// How often its keys are read again. `refresh`.
    pub refresh: Duration,
}

/// Where the keys of an issuer are, as a JSON Web Key Set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysPlace {
    /// In a file. `jwks_file`.
    File(PathBuf),
    /// On a server. `jwks_url`.
    Url {
        /// The URL.
        url: Uri,
        /// How the server's certificate is checked. `jwks_ca_file`.
        trust: Trust,
        /// A file with a token for the server. `jwks_token_file`.
        token_file: Option<PathBuf>,
    },
}

impl KeysPlace {
    /// Whether keys are in the same file or at the same URL, however they are fetched there.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Url { url, .. }, Self::Url { url: other, .. }) => url == other,
            _ => self == other,
        }
    }
}

const AUDIENCES_MAX: usize = 16;
const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];
const DEFAULT_ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
const JWKS_MAX: u64 = 256 * 1024;

pub(super) fn issuers(section: &Section<'_>) -> BTreeMap<String, Issuer> {
    let mut issuers = BTreeMap::new();
    for (name, section) in section.named() {
        if !is_name(name) {
            section.error(Problem::new(
                format!("{} is not a valid name of an issuer", quote(name)),
                "it must be 1 to 63 of a-z, 0-9, \"-\" and \"_\", starting with a letter or digit, \
                 without \"__\" and not ending with \"_\"",
            ));
        }
        if let Some(issuer) = issuer(&section) {
            issuers.insert(name.to_owned(), issuer);
        }
    }
    issuers
}

fn issuer(section: &Section<'_>) -> Option<Issuer> {
    let issuer = section.read("issuer", |node| named(scalar::text(node)?));
    section.missing(
        "issuer",
        "give the claim \"iss\" of its tokens, such as \"https://issuer.example\"",
    );
    let audiences = section.list("audiences", AUDIENCES_MAX, named);
    section.missing("audiences", "give the claim \"aud\" that its tokens have for this bridge");
    let algorithms = section.list("algorithms", ALGORITHMS.len(), algorithm);
    let leeway = section.duration("leeway", 30 * SECOND, Duration::ZERO..=5 * MINUTE);
    let refresh = section.duration("refresh", 5 * MINUTE, 10 * SECOND..=24 * HOUR);
    let (keys, key_set) = keys(section)?;
    Some(Issuer {
        issuer: issuer?,
        audiences: audiences?,
        algorithms: algorithms.unwrap_or_else(|| DEFAULT_ALGORITHMS.to_vec()),
        leeway,
        keys,
        key_set,
        refresh,
    })
}

fn named(text: &str) -> Result<String, Problem> {
    if text.is_empty() {
        return Err(Problem::new("is empty", "give a text"));
    }
    Ok(text.to_owned())
}

fn algorithm(text: &str) -> Result<Algorithm, Problem> {
    let found = ALGORITHMS.iter().find(|(name, _)| *name == text);
    found.map(|(_, algorithm)| *algorithm).ok_or_else(|| {
        let all: Vec<_> = ALGORITHMS.iter().map(|(name, _)| *name).collect();
        let problem = format!("{} is not an algorithm for tokens here", quote(text));
        let remedy = format!(
            "give some of {}; neither \"none\" nor a shared secret (HS256) is ever taken",
            all.join(", ")
        );
        Problem::new(problem, remedy)
    })
}

/// Where the keys are, and those that are in a file.
fn keys(section: &Section<'_>) -> Option<(KeysPlace, Option<KeySet>)> {
    let file = section.path("jwks_file");
    let url = section.read("jwks_url", |node| url(scalar::text(node)?));
    let roots = section.roots("jwks_ca_file", "the CA certificate of the server of jwks_url");
    let token_file = section.unwatched_path("jwks_token_file");
    let has = |key: &'static str| section.has(key);
    if has("jwks_file") == has("jwks_url") {
        if has("jwks_file") {
            let remedy = "remove one of them, since an issuer's keys are in one place";
            section.contradiction(&["jwks_file"], Problem::new("contradicts jwks_url", remedy));
        } else {
            section.missing(
                "jwks_url",
                "give the URL of the issuer's public keys, or a file with them as jwks_file",
            );
        }
        return None;
    }
    for key in ["jwks_ca_file", "jwks_token_file"].into_iter().filter(|_| has("jwks_file")) {
        let problem = "has no effect without jwks_url";
        section.contradiction(&[key], Problem::new(problem, "give jwks_url, or remove this key"));
    }
    if let Some(file) = file {
        let key_set = section.read("jwks_file", |_| key_set(&file))?;
        return Some((KeysPlace::File(file), Some(key_set)));
    }
    let url = url?;
    warn_of_plaintext(section, &url);
    let trust = roots.map_or(Trust::SystemRoots, Trust::Roots);
    Some((KeysPlace::Url { url, trust, token_file }, None))
}

fn warn_of_plaintext(section: &Section<'_>, url: &Uri) {
    if url.scheme() == Some(&Scheme::HTTP) && !is_this_machine(url.host().unwrap_or_default()) {
        section.notes().warn(format!(
            "{}.jwks_url is {url}: whoever can change what goes over the network can replace the keys, \
             and so call as anybody of this issuer; give an https:// URL",
            section.key()
        ));
    }
}

fn key_set(path: &std::path::Path) -> Result<KeySet, Problem> {
    const REMEDY: &str = "give the path of a file with the issuer's JSON Web Key Set";
    let (content, _) =
        files::read(path, JWKS_MAX).map_err(|error| files::unreadable(path, &error, REMEDY))?;
    KeySet::parse(&content).map_err(|error| {
        Problem::new(format!("{} {error}", quote(&path.to_string_lossy())), REMEDY)
    })
}

fn url(text: &str) -> Result<Uri, Problem> {
    const REMEDY: &str = "give a URL such as \"https://issuer.example/jwks.json\"";
    scalar::without_user(text, REMEDY)?;
    let url: Option<Uri> = text.parse().ok();
    let is_good = |url: &Uri| {
        let is_http = url.scheme().is_some_and(|s| *s == Scheme::HTTPS || *s == Scheme::HTTP);
        is_http && url.host().is_some_and(|host| !host.is_empty())
    };
    url.filter(is_good).ok_or_else(|| {
        Problem::new(format!("{} is not an http:// or https:// URL", quote(text)), REMEDY)
    })
}
