//! The `reload` command: has a running bridge read its configuration again.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use secrecy::ExposeSecret as _;
use tokio::time::timeout;

use super::{
    EXIT_FAILED, EXIT_MISTAKE, block_on, fail,
    output::print,
    progress::waiting,
    settings::{AdminFlag, ConfigFile, Settings},
};
use crate::{config::Admin, error_cause, secret};

#[derive(Debug, clap::Args)]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    admin: AdminFlag,
    /// Only say what would change.
    #[arg(long)]
    dry_run: bool,
}

/// How long reading the configuration may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const ANSWER_MAX: usize = 1024 * 1024;

/// `given` stands in front of the command's name.
pub(super) fn run(given: Settings, args: ReloadArgs) -> ExitCode {
    let settings = Settings::of_file(args.file).or(given).with_admin(args.admin);
    let config = match settings.load() {
        Ok(config) => config,
        Err(errors) => return fail(EXIT_MISTAKE, errors),
    };
    let Some(address) = config.admin.address else {
        let why = "admin.address is \"off\"; send SIGHUP to the bridge instead";
        return fail(EXIT_MISTAKE, why);
    };
    let address = reachable(address);
    let asked = ask(address, &config.admin, args.dry_run);
    match block_on(None, waiting("waiting for the bridge", asked)) {
        Ok(Ok((StatusCode::OK, text))) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Ok(Ok((status, text))) => {
            let code =
                if status == StatusCode::UNPROCESSABLE_ENTITY { EXIT_MISTAKE } else { EXIT_FAILED };
            fail(code, String::from_utf8_lossy(&text).trim_end())
        }
        Ok(Err(error)) => fail(
            EXIT_FAILED,
            format!(
                "no bridge answers at {address} (admin.address): {error}; run this where it runs"
            ),
        ),
        Err(error) => fail(EXIT_FAILED, format!("cannot start the runtime: {error}")),
    }
}

/// An address of this machine at which somebody answers who listens there.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
    SocketAddr::new(ip, address.port())
}

async fn ask(
    address: SocketAddr,
    admin: &Admin,
    dry_run: bool,
) -> Result<(StatusCode, Bytes), String> {
    let method = if dry_run { Method::GET } else { Method::POST };
    let mut request = Request::builder().method(method).uri(format!("http://{address}/reload"));
    if let Some(token) = &admin.token {
        let header = secret::bearer(token.expose_secret().as_bytes());
        request = request.header(AUTHORIZATION, header.ok_or("admin.token_file holds no token")?);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let asking = async {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let answer =
            client.request(request).await.map_err(|error| error_cause::innermost(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    };
    let late = |_| format!("no answer within {} s", ANSWER_WITHIN.as_secs());
    timeout(ANSWER_WITHIN, asking).await.map_err(late)?
}
