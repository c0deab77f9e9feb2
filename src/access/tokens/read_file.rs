//! Files that are read again and again.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use secrecy::zeroize::Zeroizing;
use tokio::{sync::Mutex, task::spawn_blocking, time::timeout};

use crate::config;

/// A file that is read again and again. Where its disk does not answer, one thread waits for that, and no
/// more.
#[derive(Debug)]
pub struct ReadFile {
    path: PathBuf,
    /// Held by the thread that reads.
    alone: Arc<Mutex<()>>,
}

/// How long reading may take. Callers may wait for it.
const READ_MAX: Duration = Duration::from_secs(3);

impl ReadFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, alone: Arc::default() }
    }

    /// Reads at most `max` bytes; a longer file is an error. The error is a text.
    pub(super) async fn read(&self, max: u64) -> Result<Zeroizing<Vec<u8>>, String> {
        let failed = |error: &dyn fmt::Display| format!("{self}: {error}");
        let (alone, path) = (self.alone.clone().try_lock_owned(), self.path.clone());
        let alone = alone.map_err(|_| failed(&"the disk has not answered for a while"))?;
        let reading = spawn_blocking(move || {
            let _held = alone;
            config::read_file(&path, max).map(|(content, _)| content)
        });
        let late = |_| failed(&format!("not read within {} s", READ_MAX.as_secs()));
        let read = timeout(READ_MAX, reading).await.map_err(late)?;
        read.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }
}

impl fmt::Display for ReadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_not_read_while_a_thread_waits_for_its_disk() {
        let file = ReadFile::new(std::env::current_exe().expect("a program"));
        let waiting = file.alone.clone().lock_owned().await;
        let told = file.read(u64::MAX - 1).await.expect_err("not read");
        assert!(told.contains("has not answered"), "{told}");
        drop(waiting);
        let told = file.read(1).await.expect_err("too long");
        assert!(!told.contains("has not answered"), "{told}");
    }
}
