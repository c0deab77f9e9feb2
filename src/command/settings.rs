//! Where a command finds the configuration: its file, and the flags of `serve` that set a key of it.

use std::{env, path::PathBuf, time::Duration};

use crate::config::{Config, ConfigErrors, LISTEN_KEY, Sources, is_read_once, load};

/// Names the file where neither --config does.
pub(super) const CONFIG_VARIABLE: &str = "CCGW_CONFIG";

/// What `serve` is given, and what checks that.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Settings {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    flags: Flags,
}

/// The file, for commands that need no more.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ConfigFile {
    /// The TOML file with the configuration [default: that of the variable CCGW_CONFIG].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Flags that override a key of the configuration.
#[derive(Clone, Debug, Default, clap::Args)]
struct Flags {
    /// Where gRPC callers connect: the address of the only listener, or of the one named default
    /// where there are several (listeners.default.address) [default: 127.0.0.1:50051, or [::]:50051 if
    /// it asks callers who they are or has allow_anonymous].
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    #[command(flatten)]
    admin: AdminFlag,
    /// Threads that handle calls (server.worker_threads) [default: one per core].
    #[arg(long, value_name = "COUNT")]
    worker_threads: Option<String>,
    #[command(flatten)]
    log: LogFlags,
}

/// Where the admin port is.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct AdminFlag {
    /// The address of the admin port (health, readiness, metrics), or "off" (admin.address)
    /// [default: [::]:9090].
    #[arg(long, value_name = "IP:PORT")]
    admin_listen: Option<String>,
}

/// What is logged, and how.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct LogFlags {
    /// What is logged, such as "debug" or "ccgateway_bridge=trace,info" (log.filter)
    /// [default: info].
    #[arg(long, value_name = "FILTER")]
    pub(super) log_filter: Option<String>,
    /// How it is logged (log.format) [default: auto].
    #[arg(long, value_name = "FORMAT", value_parser = ["auto", "human", "json"])]
    pub(super) log_format: Option<String>,
}

impl Settings {
    /// These, and in their place those of `other` where there are none.
    pub(super) fn or(self, other: Self) -> Self {
        Self { file: self.file.or(other.file), flags: self.flags.or(other.flags) }
    }

    /// The first flag that is given, apart from --config.
    pub(super) fn first_flag(&self) -> Option<&'static str> {
        self.flags.given().next().map(|(flag, ..)| flag)
    }

    /// For a command that needs the file alone.
    pub(super) fn of_file(file: ConfigFile) -> Self {
        Self { file, flags: Flags::default() }
    }

    /// Has --admin-listen too.
    pub(super) fn with_admin(mut self, admin: AdminFlag) -> Self {
        self.flags.admin = admin.or(self.flags.admin);
        self
    }

    pub(super) fn load(&self) -> Result<Config, ConfigErrors> {
        load(&self.sources())
    }

    /// Whether the configuration's file can be read more than once. A pipe, such as /dev/stdin, cannot.
    pub(super) fn can_be_read_again(&self) -> bool {
        !self.file.path().as_deref().is_some_and(is_read_once)
    }

    /// Loads the configuration while its files may be changing, as when Kubernetes replaces a Secret: what
    /// is returned belongs together.
    #[expect(clippy::disallowed_methods, reason = "no runtime's worker comes here")]
    pub(super) fn load_settled(&self) -> Result<Config, ConfigErrors> {
        const TRIES: usize = 5;
        const PAUSE: Duration = Duration::from_millis(50);
        let mut last = self.load();
        if !self.can_be_read_again() {
            return last;
        }
        for _ in 0..TRIES {
            let again = self.load();
            // The fingerprint is taken after the files were parsed. The second time they were parsed
            // between two fingerprints that are equal.
            let is_settled = matches!((&last, &again), (Ok(last), Ok(again)) if last.fingerprint == again.fingerprint);
            last = again;
            if is_settled {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        last
    }

    fn sources(&self) -> Sources {
        let mut sources = Sources::from_environment(env::vars_os());
        if let Some(file) = self.file.path() {
            sources = sources.with_file(file);
        }
        for (flag, key, value) in self.flags.given() {
            sources = sources.with_flag(flag, key, value);
        }
        sources
    }
}

impl ConfigFile {
    fn or(self, other: Self) -> Self {
        Self { config: self.config.or(other.config) }
    }

    /// Not an `env` of the argument: a command with --config would take the variable's file, where the
    /// flag stands in front of the command's name.
    fn path(&self) -> Option<PathBuf> {
        let named = || env::var_os(CONFIG_VARIABLE).filter(|file| !file.is_empty());
        self.config.clone().or_else(|| named().map(PathBuf::from))
    }
}

impl Flags {
    fn or(self, other: Self) -> Self {
        Self {
            listen: self.listen.or(other.listen),
            admin: self.admin.or(other.admin),
            worker_threads: self.worker_threads.or(other.worker_threads),
            log: LogFlags {
                log_filter: self.log.log_filter.or(other.log.log_filter),
                log_format: self.log.log_format.or(other.log.log_format),
            },
        }
    }

    /// Each flag that is given, with its key and its value.
    fn given(&self) -> impl Iterator<Item = (&'static str, &'static str, &str)> {
        let Self { listen, admin, worker_threads, log } = self;
        let flags = [
            ("--listen", LISTEN_KEY, listen),
            ("--admin-listen", "admin.address", &admin.admin_listen),
            ("--worker-threads", "server.worker_threads", worker_threads),
            ("--log-filter", "log.filter", &log.log_filter),
            ("--log-format", "log.format", &log.log_format),
        ];
        flags.into_iter().filter_map(|(flag, key, value)| Some((flag, key, value.as_deref()?)))
    }
}

impl AdminFlag {
    fn or(self, other: Self) -> Self {
        Self { admin_listen: self.admin_listen.or(other.admin_listen) }
    }
}
