//! How the callers of each listener are identified.

use std::{collections::BTreeMap, sync::Arc};

use super::{StartError, ports::Port};
use crate::{
    access::{
        ListenerPolicy, Rules,
        tokens::{Fetcher, Issuer, KeySource, Keys, Tokens},
    },
    config::{self, KeysPlace},
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
        let issuers = issuers.into_iter().map(|(name, settings)| {
            let issuer = issuer(&name, settings);
            match issuer {
                Ok(issuer) => Ok((name, Arc::new(issuer))),
                Err(error) => Err(StartError::Issuer(name, error)),
            }
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

fn issuer(name: &str, mut settings: config::Issuer) -> Result<Issuer, String> {
    // Only the source is needed apart from the rest.
    let place = std::mem::replace(&mut settings.keys, KeysPlace::File(<_>::default()));
    let source = match place {
        KeysPlace::File(path) => KeySource::File(path),
        KeysPlace::Url { url, tls, token_file } => {
            KeySource::Url(Box::new(Fetcher::new(url, &tls, token_file)?))
        }
    };
    let keys = Keys::follow(name, source, settings.refresh);
    Ok(Issuer::new(name, &settings, keys))
}
