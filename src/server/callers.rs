//! How the callers of each listener are identified.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{StartError, tls};
use crate::{
    access::{
        ListenerPolicy, Rules,
        tokens::{Issuer, KeySource, Keys, Tokens},
    },
    config::{self, KeysPlace, Listener, ListenerName},
};

/// What the listeners' policies are made of.
#[derive(Debug)]
pub(super) struct Policies {
    rules: Arc<Rules>,
    issuers: BTreeMap<String, Arc<Issuer>>,
    keys: Vec<IssuerKeys>,
}

/// The keys of an issuer, and where they come from.
#[derive(Clone, Debug)]
struct IssuerKeys {
    name: String,
    place: KeysPlace,
    refresh: Duration,
    keys: Arc<Keys>,
}

impl Policies {
    /// Begins to read the keys of all issuers. Keys that `before` reads from the same place are kept,
    /// since their server may be away just now.
    pub(super) fn new(
        rules: Rules,
        issuers: BTreeMap<String, config::Issuer>,
        before: Option<&Self>,
    ) -> Result<Self, StartError> {
        let mut all = Self { rules: Arc::new(rules), issuers: BTreeMap::new(), keys: Vec::new() };
        for (name, settings) in issuers {
            let known = before.and_then(|before| before.keys_of(&name, &settings)).cloned();
            let keys = match known {
                Some(known) => known,
                None => IssuerKeys::follow(&name, &settings)?,
            };
            let issuer = Issuer::new(&name, &settings, keys.keys.clone());
            all.issuers.insert(name, Arc::new(issuer));
            all.keys.push(keys);
        }
        Ok(all)
    }

    fn keys_of(&self, name: &str, settings: &config::Issuer) -> Option<&IssuerKeys> {
        let is_same = |keys: &&IssuerKeys| {
            keys.name == name && keys.place == settings.keys && keys.refresh == settings.refresh
        };
        self.keys.iter().find(is_same)
    }

    /// The rules.
    pub(super) fn rules(&self) -> &Arc<Rules> {
        &self.rules
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
            certificates: certificates.flatten(),
            allows_anonymous: listener.allows_anonymous(),
            reflection: listener.reflection,
            superseded: CancellationToken::new(),
        })
    }
}

impl IssuerKeys {
    fn follow(name: &str, settings: &config::Issuer) -> Result<Self, StartError> {
        let source = KeySource::of(&settings.keys);
        let source = source.map_err(|error| StartError::Issuer(name.to_owned(), error))?;
        let keys = Keys::follow(name, source, settings.refresh);
        let (place, refresh) = (settings.keys.clone(), settings.refresh);
        Ok(Self { name: name.to_owned(), place, refresh, keys })
    }
}
