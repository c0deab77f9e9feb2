//! Metrics of the operating system's process.
use std::{
    fs,
    sync::atomic::AtomicU64,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};
use rustix::process::{Resource, getrlimit};

/// The usual metrics of a process, with their usual names. Without `/proc`, only the start time is
/// known.
#[derive(Debug)]
pub struct Process {
    started: SystemTime,
    cpu: Counter<f64, AtomicU64>,
    resident: Gauge,
    open_files: Gauge,
    max_files: Gauge,
    threads: Gauge,
}

/// The unit of CPU time in `/proc`. It does not depend on the kernel's build.
const TICKS_PER_SECOND: f64 = 100.0;

impl Process {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let started = SystemTime::now();
        let start = Gauge::<f64, AtomicU64>::default();
        start.set(started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        let process = Self {
            started,
            cpu: Counter::default(),
            resident: Gauge::default(),
            open_files: Gauge::default(),
            max_files: Gauge::default(),
            threads: Gauge::default(),
        };
        let Self { cpu, resident, open_files, max_files, threads, .. } = &process;
        let registry = registry.sub_registry_with_prefix("process");
        registry.register_with_unit("start_time", "Since 1970", Unit::Seconds, start);
        registry.register_with_unit("cpu", "User and system time", Unit::Seconds, cpu.clone());
        let help = "Memory that is resident";
        registry.register_with_unit("resident_memory", help, Unit::Bytes, resident.clone());
        registry.register("open_fds", "Open files", open_files.clone());
        registry.register("max_fds", "Files that may be open", max_files.clone());
        registry.register("threads", "Threads", threads.clone());
        process
    }

    /// When the process started.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// Reads the values that change.
    pub(super) fn read(&self) {
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        // The folder itself is open while it is read.
        set(&self.open_files, Some(open.saturating_sub(1)));
        // `None`: there is no limit.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        set(&self.max_files, Some(limit));
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        set(&self.resident, number(&status, "VmRSS:").map(|kib| kib * 1024));
        set(&self.threads, number(&status, "Threads:"));
        if let Some(seconds) = cpu_seconds() {
            self.cpu.inner().store(seconds.to_bits(), std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// The number after a word at the beginning of a line.
fn number(status: &str, word: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(word))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses, and may contain anything. Fields 14
    // and 15 are user and system time.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut times = rest.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

fn set<T: TryInto<i64>>(gauge: &Gauge, value: Option<T>) {
    if let Some(value) = value {
        gauge.set(value.try_into().unwrap_or(i64::MAX));
    }
}
