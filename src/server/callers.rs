//! How the callers of each listener are identified.

use std::{collections::BTreeMap, sync::Arc};

use super::{StartError, ports::Port};
use crate::{
    access::{
        ListenerPolicy, Rules,
        tokens::{Issuer, KeySource, Keys, Tokens},
    },
    config,
};

/// What the listeners' policies are made of.
pub(super) struct Policies {
    rules: Arc<Rules>,
    issuers: BTreeMap<String, Arc<Issuer>>,
}

impl Policies {
    /// Begins to read the keys of all issuers.
    pub(super) fn new(
        rules: Rules,
        issuers: BTreeMap<String, config::Issuer>,
    ) -> Result<Self, StartError> {
        let issuers = issuers.into_iter().map(|(name, settings)| match issuer(&name, &settings) {
            Ok(issuer) => Ok((name, Arc::new(issuer))),
            Err(error) => Err(StartError::Issuer(name, error)),
        });
        Ok(Self { rules: Arc::new(rules), issuers: issuers.collect::<Result<_, _>>()? })
    }

    /// The policy of a listener.
    pub(super) fn of(&self, port: &Port) -> Arc<ListenerPolicy> {
        let issuers = port.issuers.iter().filter_map(|name| self.issuers.get(name).cloned());
        let issuers: Vec<_> = issuers.collect();
        let tokens = (!issuers.is_empty()).then(|| Tokens::of(issuers));
        let rules = self.rules.clone();
        let Port { allows_anonymous, reflection, .. } = *port;
        Arc::new(ListenerPolicy { rules, tokens, allows_anonymous, reflection })
    }
}

fn issuer(name: &str, settings: &config::Issuer) -> Result<Issuer, String> {
    let keys = Keys::follow(name, KeySource::of(&settings.keys)?, settings.refresh);
    Ok(Issuer::new(name, settings, keys))
}
