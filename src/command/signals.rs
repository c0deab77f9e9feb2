use std::{future::poll_fn, io, task::Poll};

use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};
use tracing::warn;

use crate::telemetry::log::LogControl;

/// The signals that are caught before anything else is done, since whoever sends one does not know whether the
/// process has just begun.
pub(super) struct EarlySignals {
    /// Those that stop the process, if it is the first one of its container. The kernel drops a signal that such
    /// a process does not catch, so the request to stop would be lost. Any other process is ended by them at
    /// once, even while it waits for its configuration.
    pub(super) stop: Option<StopSignals>,
    pub(super) hangup: Signal,
    pub(super) log: LogSignals,
    pub(super) others: OtherSignals,
}

/// A set of signals to wait for, each with its name.
struct Signals(Vec<(&'static str, Signal)>);

/// The signals that ask the process to stop.
pub(super) struct StopSignals(Signals);

/// The signals that change what is logged.
pub(super) struct LogSignals {
    more: Signal,
    reset: Signal,
}

/// The other signals whose default action ends the process at once, with calls in progress. They are
/// caught, logged and otherwise ignored.
pub(super) struct OtherSignals(Signals);

/// The process id of the first process of a container.
const FIRST_PROCESS: u32 = 1;

/// Signals for which tokio has no name, by number. SIGPIPE is not among them: Rust's runtime ignores
/// it. Nor are signals that report a bug, such as SIGSEGV and SIGABRT: they should end the process.
#[cfg(target_os = "linux")]
const NUMBERED: [(&str, std::ops::RangeInclusive<i32>); 7] = [
    ("SIGSTKFLT", 16..=16),
    ("SIGXCPU", 24..=24),
    ("SIGXFSZ", 25..=25),
    ("SIGVTALRM", 26..=26),
    ("SIGPROF", 27..=27),
    ("SIGPWR", 30..=30),
    // glibc uses 32 and 33 itself.
    ("a real-time signal", 34..=64),
];
#[cfg(not(target_os = "linux"))]
const NUMBERED: [(&str, std::ops::RangeInclusive<i32>); 4] =
    [("SIGXCPU", 24..=24), ("SIGXFSZ", 25..=25), ("SIGVTALRM", 26..=26), ("SIGPROF", 27..=27)];

impl EarlySignals {
    /// Catches these signals from here on. Must not be called within a runtime; the next one that there is
    /// gets what has come until then.
    pub(super) fn listen() -> io::Result<Self> {
        Self::listen_as(std::process::id())
    }

    fn listen_as(process: u32) -> io::Result<Self> {
        // Only a runtime catches signals, and how many threads the bridge's own one has is in the
        // configuration.
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let _entered = runtime.enter();
        let stop = (process == FIRST_PROCESS).then(StopSignals::listen).transpose()?;
        let hangup = signal(SignalKind::hangup())?;
        Ok(Self { stop, hangup, log: LogSignals::listen()?, others: OtherSignals::listen()? })
    }
}

impl Signals {
    fn listen(kinds: impl IntoIterator<Item = (&'static str, SignalKind)>) -> io::Result<Self> {
        let listen = |(name, kind)| Ok((name, signal(kind)?));
        Ok(Self(kinds.into_iter().map(listen).collect::<io::Result<_>>()?))
    }

    /// Waits for the next signal and returns its name.
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
    /// Catches these signals from here on, so that they do not end the process at once.
    pub(super) fn listen() -> io::Result<Self> {
        let kinds = [
            ("SIGTERM", SignalKind::terminate()),
            ("SIGINT", SignalKind::interrupt()),
            ("SIGQUIT", SignalKind::quit()),
        ];
        Signals::listen(kinds).map(Self)
    }

    /// Waits for the next signal and returns its name.
    pub(super) async fn next(&mut self) -> &'static str {
        self.0.next().await
    }
}

impl LogSignals {
    /// Catches these signals from here on, so that they do not end the process.
    fn listen() -> io::Result<Self> {
        let more = signal(SignalKind::user_defined1())?;
        let reset = signal(SignalKind::user_defined2())?;
        Ok(Self { more, reset })
    }

    /// Changes the log's filter at each signal, for as long as the process runs.
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
    /// Catches these signals from here on, so that they do not end the process.
    fn listen() -> io::Result<Self> {
        let named = [("SIGALRM", SignalKind::alarm()), ("SIGIO", SignalKind::io())];
        let mut signals = Signals::listen(named)?;
        let numbered = NUMBERED.into_iter().flat_map(|(name, numbers)| {
            numbers.map(move |number| (name, SignalKind::from_raw(number)))
        });
        // A signal that cannot be caught is skipped: valgrind, for example, reserves some.
        signals.0.extend(numbered.filter_map(|(name, kind)| Some((name, signal(kind).ok()?))));
        Ok(Self(signals))
    }

    /// Logs each signal, for as long as the process runs.
    pub(super) async fn follow(mut self) {
        loop {
            let signal = self.0.next().await;
            warn!(signal, "ignored a signal that the bridge does not use");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{env, process::Command, time::Duration};

    use rustix::process::{self, getpid, kill_process};
    use tokio::time::timeout;

    use super::*;

    /// Set where the test is to be done in this process.
    const IN_CHILD: &str = "CCGW_TEST_OF_SIGNALS";

    /// In a process of its own: whoever catches a signal once is never ended by it again.
    #[test]
    fn the_first_process_of_a_container_hears_of_a_stop_before_its_runtime_begins() {
        if env::var_os(IN_CHILD).is_none() {
            let name = "command::signals::tests::the_first_process_of_a_container_hears_of_a_stop_before_its_runtime_begins";
            let mut child = Command::new(env::current_exe().expect("known"));
            let done =
                child.args(["--exact", name]).env(IN_CHILD, "yes").output().expect("started");
            let printed = String::from_utf8_lossy(&done.stdout);
            assert!(done.status.success() && printed.contains("1 passed"), "{printed}");
            return;
        }
        let early = EarlySignals::listen_as(FIRST_PROCESS).expect("signals can be caught");
        let mut stop = early.stop.expect("caught");
        kill_process(getpid(), process::Signal::TERM).expect("sent");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let heard = runtime.block_on(async {
            timeout(Duration::from_secs(30), stop.next()).await.expect("heard")
        });
        assert_eq!(heard, "SIGTERM");
    }

    #[test]
    fn what_stops_another_process_is_left_to_end_it_at_once() {
        let early = EarlySignals::listen_as(FIRST_PROCESS + 1).expect("signals can be caught");
        assert!(early.stop.is_none());
    }
}
