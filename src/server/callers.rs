//! How the callers of each listener are identified.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{StartError, tls};
use crate::{
    access::{
        ListenerPolicy, Rules,
        tokens::{Issuer, KeySet, KeySource, Keys, Reading, Tokens},
    },
    config::{self, KeysPlace, Listener, ListenerName, Setting},
};

/// What the listeners' policies are made of.
#[derive(Debug)]
pub(super) struct Policies {
    rules: Arc<Rules>,
    issuers: BTreeMap<String, Arc<Issuer>>,
    keys: Vec<IssuerKeys>,
    /// Whether listeners that do not say it themselves have reflection.
    default_reflection: bool,
}

/// The keys of an issuer, and where they come from.
#[derive(Debug)]
struct IssuerKeys {
    name: String,
    /// Its name in tokens.
    issuer: String,
    place: KeysPlace,
    refresh: Duration,
    keys: Arc<Keys>,
    /// How they are read from now on; `None`: as before.
    reading: Option<Reading>,
    /// What was in their file when the configuration was read.
    key_set: Option<KeySet>,
}

impl Policies {
    /// What the configuration says. Keys that `before` has of the same issuer and place are kept, since
    /// their server may be away just now.
    pub(super) fn new(
        rules: Rules,
        issuers: BTreeMap<String, config::Issuer>,
        default_reflection: bool,
        before: Option<&Self>,
    ) -> Result<Self, StartError> {
        let (rules, keys) = (Arc::new(rules), Vec::new());
        let mut all = Self { rules, issuers: BTreeMap::new(), keys, default_reflection };
        for (name, mut settings) in issuers {
            let known = before.and_then(|before| before.keys_of(&name, &settings));
            let keys = IssuerKeys::new(&name, &mut settings, known)?;
            let issuer = Issuer::new(&name, &settings, keys.keys.clone());
            all.issuers.insert(name, Arc::new(issuer));
            all.keys.push(keys);
        }
        Ok(all)
    }

    fn keys_of(&self, name: &str, settings: &config::Issuer) -> Option<&IssuerKeys> {
        let is_same = |keys: &&IssuerKeys| {
            (&*keys.name, &keys.issuer) == (name, &settings.issuer)
                && keys.place.is_same(&settings.keys)
        };
        self.keys.iter().find(is_same)
    }

    /// Begins to read the keys of all issuers as the configuration says. Keys that were read
    /// with it count at once if they are among what is `taken`; otherwise newer ones may have been read since.
    pub(super) fn put_in_force(&mut self, taken: &[Setting]) {
        for keys in &mut self.keys {
            let file = format!("issuers.{}.jwks_file", keys.name);
            let is_taken = taken.iter().any(|setting| setting.key() == file);
            let counts = is_taken || keys.keys.current().is_empty();
            if let Some(key_set) = keys.key_set.take().filter(|_| counts) {
                keys.keys.put(key_set);
            }
            if let Some(reading) = keys.reading.take() {
                keys.keys.follow(reading);
            }
        }
    }

    /// The policy of a listener that is not as the configuration says before a restart. `listener` is what
    /// the configuration says of it, if anything.
    pub(super) fn narrow(
        &self,
        running: &ListenerPolicy,
        name: &ListenerName,
        listener: Option<&Listener>,
    ) -> Result<ListenerPolicy, StartError> {
        let configured = listener.map(|listener| self.of(name, listener)).transpose()?;
        let is_taken = |name: &String| match listener {
            Some(listener) if !listener.issuers.is_empty() => listener.issuers.contains(name),
            _ => running.takes_tokens_of(name),
        };
        let issuers = self.issuers.iter().filter(|&(name, _)| is_taken(name));
        let issuers: Vec<_> = issuers.map(|(_, issuer)| issuer.clone()).collect();
        let default_reflection = self.default_reflection;
        Ok(running.narrowed(&self.rules, &issuers, configured.as_ref(), default_reflection))
    }

    /// The policy of a listener.
    pub(super) fn of(
        &self,
        name: &ListenerName,
        listener: &Listener,
    ) -> Result<ListenerPolicy, StartError> {
        let issuers = listener.issuers.iter().filter_map(|name| self.issuers.get(name).cloned());
        let issuers: Vec<_> = issuers.collect();
        let certificates = listener.tls.as_ref().map(tls::client_verifier).transpose();
        let certificates = certificates.map_err(|error| StartError::Tls(name.clone(), error))?;
        Ok(ListenerPolicy {
            rules: self.rules.clone(),
            tokens: (!issuers.is_empty()).then(|| Arc::new(Tokens::of(issuers))),
            certificates: certificates.flatten().into_iter().collect(),
            allows_anonymous: listener.allows_anonymous(),
            reflection: listener.reflection,
            superseded: CancellationToken::new(),
            narrowed_from: None,
        })
    }
}

impl IssuerKeys {
    fn new(
        name: &str,
        settings: &mut config::Issuer,
        known: Option<&Self>,
    ) -> Result<Self, StartError> {
        let (place, refresh) = (settings.keys.clone(), settings.refresh);
        let anew = || -> Result<_, StartError> {
            let source = KeySource::of(&place);
            let source = source.map_err(|error| StartError::Issuer(name.to_owned(), error))?;
            Ok(Reading { source: Arc::new(source), interval: refresh })
        };
        let (keys, reading) = match known {
            Some(known) if (&known.place, known.refresh) == (&place, refresh) => {
                (known.keys.clone(), None)
            }
            Some(known) => (known.keys.clone(), Some(anew()?)),
            None => {
                let reading = anew()?;
                (Keys::new(name, reading.clone()), Some(reading))
            }
        };
        let (name, issuer) = (name.to_owned(), settings.issuer.clone());
        let key_set = settings.key_set.take();
        Ok(Self { name, issuer, place, refresh, keys, reading, key_set })
    }
}
