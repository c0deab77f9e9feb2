//! How the callers of each listener are identified.

use std::{collections::BTreeMap, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::{StartError, tls};
use crate::{
    access::{
        ListenerPolicy, Rules,
        tokens::{Issuer, KeySource, Keys, Tokens},
    },
    config::{self, Listener, ListenerName},
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
            tokens: (!issuers.is_empty()).then(|| Tokens::of(issuers)),
            certificates: certificates.flatten(),
            allows_anonymous: listener.allows_anonymous(),
            reflection: listener.reflection,
            superseded: CancellationToken::new(),
        })
    }
}

fn issuer(name: &str, settings: &config::Issuer) -> Result<Issuer, String> {
    let keys = Keys::follow(name, KeySource::of(&settings.keys)?, settings.refresh);
    Ok(Issuer::new(name, settings, keys))
}
