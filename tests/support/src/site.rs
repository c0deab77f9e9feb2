//! The place of a test's bridges: a gateway and a folder.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ccgateway_bridge::config::{Config, Sources, load};
use ccgateway_sim::{Options, Simulator};
use tempfile::TempDir;

use crate::{STORE_KEY, Setup, gateway, key_hex};

/// A gateway, and a folder for the files of its bridges. Clones are the same site.
#[derive(Clone, Debug)]
pub struct Site {
    /// The gateway.
    pub gateway: Simulator,
    folder: Arc<TempDir>,
    configurations: Arc<AtomicUsize>,
}

impl Site {
    /// A site with a new gateway that accepts [`PASSWORD`](crate::PASSWORD) for every agent.
    pub async fn new(options: Options) -> Self {
        Self::of(gateway(options).await)
    }

    /// A site with this gateway.
    pub fn of(gateway: Simulator) -> Self {
        let folder = Arc::new(TempDir::new().expect("a folder"));
        let site = Self { gateway, folder, configurations: Arc::default() };
        site.write("ca.pem", site.gateway.certificate_pem());
        site.write("store.key", key_hex(STORE_KEY));
        site
    }

    /// The path of a file in the site's folder; it need not exist.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in the site's folder. Returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("written");
        path
    }

    /// Writes the configuration of one more bridge. Returns its path. All bridges of a site have the same
    /// credentials file, which the last bridge with credentials has written.
    pub fn write_config(&self, setup: &Setup) -> PathBuf {
        let number = self.configurations.fetch_add(1, Ordering::Relaxed);
        let credentials = setup.credentials();
        // Other bridges may be reading the file, so it is written only if it changes.
        let is_there =
            fs::read_to_string(self.path("agents.toml")).is_ok_and(|is| is == credentials);
        if !credentials.is_empty() && !is_there {
            self.write("agents.toml", credentials);
        }
        self.write(&format!("bridge-{number}.toml"), setup.text(&self.gateway))
    }

    /// Writes the configuration of one more bridge, and loads it.
    pub fn config(&self, setup: &Setup) -> Config {
        let file = self.write_config(setup);
        let config = load(&Sources::default().with_file(file));
        let mut config = config.unwrap_or_else(|errors| panic!("{errors}"));
        if let Some(adjust) = setup.adjust {
            adjust(&mut config);
        }
        config
    }
}
