//! Opens the store of sessions and joins the other replicas, as `[store]` says. This is the only
//! place outside of the configuration that knows [`crate::cluster`], and the only one that works
//! without it.

use std::sync::Arc;

use super::StartError;
use crate::{
    config::{self, Config, Store},
    id::TenantId,
    session::{SessionFile, Stores},
    tenant::Replicas,
};

/// The store of sessions for all tenants, and the other replicas.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) stores: Stores,
    /// The other replicas. `None` if there are none.
    pub(super) replicas: Option<Arc<dyn Replicas>>,
}

/// The configuration wants sessions shared with other replicas, and this build cannot do that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "store.urls: this build of the bridge shares nothing with other replicas, since it was made \
     without the feature \"cluster\"; build it with `--features cluster`, or give store.file for one \
     process alone"
)]
pub struct SharesNothing;

/// Checks whether this build of the program can do what `[store]` asks for.
///
/// # Errors
///
/// [`SharesNothing`] if it cannot.
pub fn check_store(config: &Config) -> Result<(), SharesNothing> {
    check(config, cfg!(feature = "cluster"))
}

fn check(config: &Config, can_share: bool) -> Result<(), SharesNothing> {
    let is_shared = config.store.as_ref().and_then(Store::redis).is_some();
    if is_shared && !can_share { Err(SharesNothing) } else { Ok(()) }
}

/// Asks the store that `[store]` names whether it does what the bridge needs for these tenants. Says what
/// was found, or what is wrong and what to do about it; nothing if there is no store. Changes nothing
/// that lasts.
pub async fn ask_store(
    config: &Config,
    tenants: &[&TenantId],
) -> Option<Result<String, (String, String)>> {
    if let Err(error) = check_store(config) {
        return Some(Err((error.to_string(), String::new())));
    }
    match config.store.as_ref()? {
        // A bridge may have it open, so this does not try.
        Store::File(file) => Some(Ok(format!("the file {}; not opened here", file.path.display()))),
        Store::Redis(redis) => Some(ask_shared(redis, tenants).await),
    }
}

#[cfg(feature = "cluster")]
async fn ask_shared(
    config: &config::RedisStore,
    tenants: &[&TenantId],
) -> Result<String, (String, String)> {
    crate::cluster::ask(config, tenants).await
}

#[cfg(not(feature = "cluster"))]
fn ask_shared(
    _: &config::RedisStore,
    _: &[&TenantId],
) -> std::future::Ready<Result<String, (String, String)>> {
    std::future::ready(Err((SharesNothing.to_string(), String::new())))
}

/// Opens the store that `[store]` names.
pub(super) async fn open(config: &Config) -> Result<Opened, StartError> {
    check_store(config)?;
    let stores = match &config.store {
        None => Stores::Embedded,
        #[cfg(feature = "cluster")]
        Some(Store::Redis(redis)) => return Ok(shared(redis)),
        #[cfg(not(feature = "cluster"))]
        Some(Store::Redis(_)) => return Err(SharesNothing.into()),
        Some(Store::File(file)) => {
            let capacities = config.tenants.iter();
            let capacities = capacities.map(|(id, tenant)| (id.clone(), tenant.limits.sessions));
            Stores::File(SessionFile::open(file, capacities.collect()).await?)
        }
    };
    Ok(Opened { stores, replicas: None })
}

#[cfg(feature = "cluster")]
fn shared(config: &config::RedisStore) -> Opened {
    let cluster = Arc::new(crate::cluster::Shared::new(config));
    Opened { stores: Stores::Shared(cluster.clone()), replicas: Some(cluster) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Sources;

    fn config(store: &str) -> Config {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(
            folder.path().join("store.key"),
            "8f4ab6f248e63ffc9aaa69487cdc82353afbff70ec2e02c3e232607da938c9fb",
        )
        .expect("written");
        let file = folder.path().join("bridge.toml");
        let tenant = "tenants.acme.base_urls = [\"https://gateway.example\"]";
        fs::write(&file, format!("{tenant}\n[store]\n{store}\n")).expect("written");
        config::load(&Sources::default().with_file(file)).expect("a configuration")
    }

    #[test]
    fn a_build_that_shares_nothing_refuses_what_replicas_are_to_share() {
        let key = "encryption_key_files = \"store.key\"";
        let shared = config(&format!("urls = \"redis://127.0.0.1\"\n{key}"));
        let refused = check(&shared, false).expect_err("it has urls").to_string();
        assert!(refused.starts_with("store.urls: ") && refused.contains("--features cluster"));
        assert_eq!(check(&shared, true), Ok(()));
        let own = config("file = \"sessions.redb\"");
        assert_eq!(check(&own, false), Ok(()));
    }
}
