//! A folder with a configuration file in it.

use std::{fs, path::PathBuf};

use ccgateway_bridge::config::{self, Config, Sources};
use tempfile::TempDir;

/// The shortest configuration, on one line, so that a test's own text starts on the second.
pub(crate) const TENANT: &str = "tenants.acme.base_urls = [\"https://gateway.example\"]\n";

/// A key for a store.
pub(crate) const KEY: &str = "8f4ab6f248e63ffc9aaa69487cdc82353afbff70ec2e02c3e232607da938c9fb";

pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn sources(&self, text: impl AsRef<[u8]>) -> Sources {
        Sources::default().with_file(self.write("bridge.toml", text))
    }

    /// The lines of the mistakes without the header, with this folder cut out.
    pub(crate) fn mistakes(&self, text: impl AsRef<[u8]>) -> Vec<String> {
        self.mistakes_of(&self.sources(text))
    }

    pub(crate) fn mistakes_of(&self, sources: &Sources) -> Vec<String> {
        let folder = format!("{}/", self.0.path().display());
        let errors = config::load(sources).expect_err("a mistake");
        let text = errors.to_string().replace(&folder, "");
        let lines = text.lines().skip(1);
        lines.map(|line| line.trim_start().to_owned()).collect()
    }
}

#[track_caller]
pub(crate) fn load(text: &str) -> Config {
    let folder = Folder::new();
    config::load(&folder.sources(text)).unwrap_or_else(|errors| panic!("{errors}"))
}
