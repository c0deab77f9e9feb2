//! What a call costs the bridge, beside what it costs others on the same machine: a plain nginx proxy, which reads
//! nothing of it, and Envoy's gRPC-to-REST transcoder. All stand in front of the same nginx, which answers as a gateway.
//!
//! `scripts/bench` runs this, with the programs that it needs. It does what is named: `side_by_side`, `rates`,
//! `instructions`, `growth`.

#![allow(clippy::print_stdout, reason = "the tables are what a benchmark is for")]
#![allow(clippy::cast_precision_loss, reason = "counts of calls are small")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes are small")]

#[path = "../process/callgrind.rs"]
mod callgrind;
mod envoy;
mod growth;
mod instructions;
mod load;
mod measured;
mod nginx;
mod plot;
#[path = "../process/mod.rs"]
mod process;
mod rates;
mod side_by_side;
mod site;

use std::{env, error::Error, ffi::OsStr};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::site::{Doing, Server, Site, named, on_server_cpu};

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let Some(nginx) = named("NGINX") else {
        println!("scripts/bench runs this, with the programs that it needs");
        return Ok(());
    };
    // Those that are started here have the same limit.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files })?;
    let site = Site::start(&nginx).await?;
    for section in env::args().skip(1).filter(|word| !word.starts_with('-')) {
        println!("\n== {section} ==");
        match &*section {
            "side_by_side" => side_by_side::run(&servers(&site, &nginx).await?).await?,
            "rates" => rates::run(&servers(&site, &nginx).await?).await?,
            "instructions" => instructions::run(&site, &nginx).await?,
            "growth" => growth::run(&site).await?,
            _ => return Err(format!("{section}: not known").into()),
        }
    }
    Ok(())
}

/// All that are compared.
async fn servers(site: &Site, nginx: &OsStr) -> Result<Vec<Server>, Failure> {
    let mut servers = vec![site.nginx(on_server_cpu(nginx)).await?];
    for doing in Doing::ALL {
        servers.push(site.bridge(doing, on_server_cpu(process::PROGRAM)).await?);
    }
    servers.extend(site.envoy().await?);
    Ok(servers)
}

/// A number that the environment may give.
fn setting(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
