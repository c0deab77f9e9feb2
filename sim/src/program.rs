//! The program `ccgateway-sim`: simulated gateways for integrators who have no real one.

mod flags;

use std::{
    fs, io,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::ExitCode,
};

use clap::Parser;
use tokio::net::TcpListener;

use self::flags::Flags;
use super::{
    Simulator,
    control::{Control, hex},
};

/// Why the program did not start, as text for its user.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot listen on {addr} for {what}: {error}\n{advice}")]
    Listen { addr: SocketAddr, what: String, error: io::Error, advice: String },
    #[error("{flag}: {error}")]
    Flag { flag: String, error: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Reads the command line and runs the gateways until SIGTERM or Ctrl-C. Returns the exit code.
pub fn main() -> ExitCode {
    let flags = Flags::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(io::stderr)
        .init();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(StartError::from)
        .and_then(|runtime| runtime.block_on(run(&flags)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "ccgateway-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `[::]` is `0.0.0.0` on a machine without IPv6.
async fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(addr).await {
        Err(error) if addr.ip().is_unspecified() && error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, addr.port())).await
        }
        bound => bound,
    }
}

async fn run(flags: &Flags) -> Result<(), StartError> {
    // Before anything is printed: a user or script may send a signal as soon as it sees output.
    let stopped = stop_signal()?;
    let gateways = start_gateways(flags).await?;
    if let Some(path) = &flags.write_ca {
        write_certificates(path, &gateways)?;
    }
    let control = listen(flags.control).await.map_err(|error| StartError::Listen {
        addr: flags.control,
        what: "the control endpoint".into(),
        error,
        advice: "choose another address with --control; port 0 takes a free one".into(),
    })?;
    // A closed stdout is no error.
    let _ = announce(flags, &gateways, control.local_addr()?);

    let serving = Control::new(gateways.clone()).serve(control);
    tokio::select! {
        () = serving => {}
        () = stopped => {}
    }
    for (_, gateway) in &gateways {
        gateway.stop().await;
    }
    Ok(())
}

async fn start_gateways(flags: &Flags) -> Result<Vec<(String, Simulator)>, StartError> {
    let mut gateways = Vec::new();
    for (index, tenant) in flags.tenants()?.into_iter().enumerate() {
        let options = flags.options(index)?;
        let addr = options.listen;
        let gateway = Simulator::start(options).await.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => {
                StartError::Flag { flag: "--tls-cert, --tls-key".into(), error: error.into() }
            }
            _ => StartError::Listen {
                addr,
                what: format!("tenant {tenant}"),
                error,
                advice: "choose another address with --listen; port 0 takes free ports, any other \
                    port is the first tenant's, and the next ports are for the others"
                    .into(),
            },
        })?;
        gateways.push((tenant, gateway));
    }
    Ok(gateways)
}

fn write_certificates(path: &Path, gateways: &[(String, Simulator)]) -> Result<(), StartError> {
    let bundle: String = gateways.iter().map(|(_, gateway)| gateway.certificate_pem()).collect();
    fs::write(path, bundle).map_err(|error| StartError::Flag {
        flag: format!("--write-ca {}", path.display()),
        error: error.into(),
    })
}

fn announce(
    flags: &Flags,
    gateways: &[(String, Simulator)],
    control: SocketAddr,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let certificate = match &flags.write_ca {
        _ if flags.tls.plain_http => "none, plain HTTP".into(),
        Some(path) => format!("written to {}", path.display()),
        None => "not written; --write-ca PATH writes it".into(),
    };
    for (tenant, gateway) in gateways {
        writeln!(out, "tenant    {tenant}")?;
        writeln!(out, "  base    {}", gateway.base_url())?;
        writeln!(out, "  ca      {certificate}")?;
        writeln!(out, "  sha256  {}", hex(&gateway.leaf_sha256()))?;
    }
    writeln!(out, "control   http://{control}/")?;
    out.flush()
}

#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        // If no handler could be installed, wait for the end of the process.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
