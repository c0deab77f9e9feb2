use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use super::{
    EXIT_FAILED, EXIT_MISTAKE, Settings, block_on,
    config_watch::ConfigWatch,
    core_dumps, fail, last_line, notify,
    signals::{EarlySignals, StopSignals},
};
use crate::{
    config::Config,
    server::{Bridge, Controls, ReloadControl},
    telemetry::log::{self, LogControl},
    version,
};

pub(super) fn run(settings: &Settings) -> ExitCode {
    let signals = match EarlySignals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(EXIT_FAILED, format!("cannot listen for signals: {error}")),
    };
    let config = match settings.load_settled() {
        Ok(config) => config,
        Err(errors) => return fail(EXIT_MISTAKE, errors),
    };
    // Held until the bridge has ended; dropping it earlier would lose the last lines.
    let logging = match log::start(&config.log.filter, config.log.format) {
        Ok(logging) => logging,
        Err(error) => return fail(EXIT_FAILED, error),
    };
    if !config.server.core_dumps {
        forbid_core_dumps();
    }
    let threads = config.server.worker_threads;
    let ended = block_on(threads, serve(settings, config, signals, logging.control().clone()));
    let error = match ended {
        Ok(Ok(code)) => return code,
        Ok(Err(error)) => error,
        Err(error) => format!("cannot start the runtime: {error}"),
    };
    // By the thread that writes the log, so that it comes behind the warnings that may explain it.
    logging.end_with(&last_line(error));
    ExitCode::from(EXIT_FAILED)
}

fn forbid_core_dumps() {
    if let Err(error) = core_dumps::forbid() {
        warn!(%error, "core dumps could not be switched off; they would have all passwords, Guids and keys");
    }
}

/// Raises the soft limit of open files to the hard limit. Every connection is an open file, and every
/// kept session has a connection to its gateway. The default soft limit is low only for programs that
/// use `select`, which the bridge does not.
fn raise_file_limit(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    // `None`: there is no limit.
    let files = raised.map(|()| limit.maximum.unwrap_or(u64::MAX));
    match files {
        Ok(files) if usize::try_from(files).is_ok_and(|files| files < connections) => warn!(
            files,
            connections,
            "open files are limited to fewer than server.connections.max; raise the limit (ulimit -Hn, \
             LimitNOFILE of systemd), or lower server.connections.max"
        ),
        Ok(files) => info!(files, "open files are limited"),
        Err(error) => warn!(%error, "the limit of open files could not be raised"),
    }
}

/// Serves callers until a signal stops that. The error says why it did not begin.
async fn serve(
    settings: &Settings,
    config: Config,
    early: EarlySignals,
    log: LogControl,
) -> Result<ExitCode, String> {
    raise_file_limit(config.server.connections.max.get());
    let EarlySignals { stop, hangup, log: log_signals, others } = early;
    // Before the ports open: a signal during the start must not end the process at once, with calls
    // unanswered.
    let mut signals = stop
        .map_or_else(StopSignals::listen, Ok)
        .map_err(|error| format!("cannot listen for signals: {error}"))?;
    tokio::spawn(log_signals.follow(log.clone()));
    tokio::spawn(others.follow());
    let (control, requests) = ReloadControl::new();
    let controls = Controls { log: Some(log), reload: Some(control) };
    let config_watch = ConfigWatch::new(settings, &config, requests, hangup);
    let tenants: Vec<_> = config.tenants.keys().map(ToString::to_string).collect();
    let with_tls = config.listeners.iter().filter(|(_, listener)| listener.tls.is_some());
    let with_tls: Vec<_> = with_tls.map(|(name, _)| name.to_string()).collect();
    let starting = Bridge::start_with(config, controls);
    let bridge = tokio::select! {
        started = starting => started.map_err(|error| error.to_string())?,
        signal = signals.next() => {
            info!(signal, "stopped during the start");
            return Ok(ExitCode::SUCCESS);
        }
    };
    for (name, addr) in bridge.listeners() {
        let tls = with_tls.contains(&name.to_string());
        info!(listener = %name, grpc.addr = %addr, tls, "listening");
    }
    let addrs: Vec<_> = bridge.listeners().iter().map(|(_, addr)| addr.to_string()).collect();
    info!(
        grpc.addr = addrs.join(","),
        admin.addr = bridge.admin_addr().map(tracing::field::display),
        tenants = tenants.join(","),
        version = version::VERSION,
        "serving",
    );
    notify::ready();

    let signal = tokio::select! {
        signal = signals.next() => signal,
        never = config_watch.follow(&bridge) => match never {},
    };
    info!(signal, "stopping; a second signal stops at once");
    notify::stopping();
    tokio::select! {
        _drained = bridge.drain() => Ok(ExitCode::SUCCESS),
        signal = signals.next() => {
            warn!(signal, "stopped at once");
            Ok(ExitCode::from(EXIT_FAILED))
        }
    }
}
