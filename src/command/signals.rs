use std::{future::poll_fn, io, task::Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::telemetry::log::LogControl;

/// Signals that are waited for, each with its name.
struct Signals(Vec<(&'static str, Signal)>);

/// The signals that ask the process to stop.
pub(super) struct StopSignals(Signals);

/// The signals that change what is logged.
pub(super) struct LogSignals {
    more: Signal,
    reset: Signal,
}

/// The other signals that would end the process at once, with calls under way.
pub(super) struct OtherSignals(Signals);

/// Real-time signals and some others have no name in tokio. SIGPIPE is ignored by Rust's runtime;
/// those that tell of a bug, such as SIGSEGV and SIGABRT, are left to end the process.
#[cfg(target_os = "linux")]
const NUMBERED: [(&str, std::ops::RangeInclusive<i32>); 7] = [
    ("SIGSTKFLT", 16..=16),
    ("SIGXCPU", 24..=24),
    ("SIGXFSZ", 25..=25),
    ("SIGVTALRM", 26..=26),
    ("SIGPROF", 27..=27),
    ("SIGPWR", 30..=30),
    // Those below belong to the C library.
    ("a real-time signal", 34..=64),
];
#[cfg(not(target_os = "linux"))]
const NUMBERED: [(&str, std::ops::RangeInclusive<i32>); 4] =
    [("SIGXCPU", 24..=24), ("SIGXFSZ", 25..=25), ("SIGVTALRM", 26..=26), ("SIGPROF", 27..=27)];

impl Signals {
    fn listen(kinds: impl IntoIterator<Item = (&'static str, SignalKind)>) -> io::Result<Self> {
        let listen = |(name, kind)| Ok((name, signal(kind)?));
        Ok(Self(kinds.into_iter().map(listen).collect::<io::Result<_>>()?))
    }

    /// Waits for the next one and tells its name.
    async fn next(&mut self) -> &'static str {
        poll_fn(|context| {
            for (name, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready(*name);
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl StopSignals {
    /// From now on a signal no longer ends the process at once.
    pub(super) fn listen() -> io::Result<Self> {
        let kinds = [
            ("SIGTERM", SignalKind::terminate()),
            ("SIGINT", SignalKind::interrupt()),
            ("SIGQUIT", SignalKind::quit()),
        ];
        Signals::listen(kinds).map(Self)
    }

    /// Waits for the next one and tells its name.
    pub(super) async fn next(&mut self) -> &'static str {
        self.0.next().await
    }
}

impl LogSignals {
    /// From now on these signals no longer end the process.
    pub(super) fn listen() -> io::Result<Self> {
        let more = signal(SignalKind::user_defined1())?;
        let reset = signal(SignalKind::user_defined2())?;
        Ok(Self { more, reset })
    }

    /// Does what they ask for, as long as the process runs.
    pub(super) async fn follow(mut self, log: LogControl) {
        loop {
            let changed = tokio::select! {
                _ = self.more.recv() => log.more("SIGUSR1"),
                _ = self.reset.recv() => log.reset("SIGUSR2"),
            };
            if let Err(error) = changed {
                warn!(%error, "the log's filter stays as it is");
            }
        }
    }
}

impl OtherSignals {
    /// From now on these signals no longer end the process.
    pub(super) fn listen() -> io::Result<Self> {
        let named = [
            ("SIGHUP", SignalKind::hangup()),
            ("SIGALRM", SignalKind::alarm()),
            ("SIGIO", SignalKind::io()),
        ];
        let mut signals = Signals::listen(named)?;
        let numbered = NUMBERED.into_iter().flat_map(|(name, numbers)| {
            numbers.map(move |number| (name, SignalKind::from_raw(number)))
        });
        // A tool that the process runs under may keep some of them for itself, as valgrind does.
        signals.0.extend(numbered.filter_map(|(name, kind)| Some((name, signal(kind).ok()?))));
        Ok(Self(signals))
    }

    /// Says what they do not do, as long as the process runs.
    pub(super) async fn follow(mut self) {
        loop {
            match self.0.next().await {
                "SIGHUP" => info!(
                    signal = "SIGHUP",
                    "nothing is read again by a running process; restart it for a new configuration"
                ),
                signal => warn!(signal, "a signal that means nothing here; going on"),
            }
        }
    }
}
