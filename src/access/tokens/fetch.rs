//! Fetches a key set over HTTP.

use std::{fmt, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION},
};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::timeout;

use super::{TOKEN_MAX, read_file::ReadFile};
use crate::{
    config::{ClientTls, Trust},
    error_cause,
    resolver::Resolver,
    secret,
    tls::client_config,
};

/// Where a key set is fetched.
pub struct Fetcher {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Empty<Bytes>>,
    url: Uri,
    /// A file with the token that the server wants; read for each request, since it is replaced.
    token_file: Option<ReadFile>,
}

/// The longest key set, in bytes. Real ones have a few thousand.
pub(super) const KEY_SET_MAX: usize = 256 * 1024;
/// How long fetching a key set may take. Callers may wait for it.
const FETCH_MAX: Duration = Duration::from_secs(3);
const JSON: HeaderValue = HeaderValue::from_static("application/jwk-set+json, application/json");

impl Fetcher {
    /// Fetches from this URL.
    ///
    /// # Errors
    ///
    /// A text, if TLS cannot be set up.
    pub fn new(url: Uri, trust: Trust, token_file: Option<PathBuf>) -> Result<Self, String> {
        let tls = ClientTls { trust, client: None };
        let mut tcp = HttpConnector::new_with_resolver(Resolver::default());
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(client_config(&tls)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, url, token_file: token_file.map(ReadFile::new) })
    }

    /// Fetches the key set. The error is a text.
    pub(super) async fn fetch(&self) -> Result<Bytes, String> {
        let fetching = timeout(FETCH_MAX, self.fetch_at_leisure());
        let late = |_| format!("no answer within {} s", FETCH_MAX.as_secs());
        fetching.await.map_err(late)?
    }

    async fn fetch_at_leisure(&self) -> Result<Bytes, String> {
        let mut request = Request::get(self.url.clone()).header(ACCEPT, JSON);
        if let Some(file) = &self.token_file {
            let token = file.read(TOKEN_MAX as u64).await?;
            let header = secret::bearer(&token);
            let header = header.ok_or_else(|| format!("{file} holds no token"))?;
            request = request.header(AUTHORIZATION, header);
        }
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        let answer =
            self.client.request(request).await.map_err(|error| error_cause::innermost(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("it answered with HTTP status {}", answer.status().as_u16()));
        }
        let body = Limited::new(answer.into_body(), KEY_SET_MAX).collect().await;
        Ok(body.map_err(|error| error.to_string())?.to_bytes())
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("url", &self.url).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::resolver::without_threads_for_blocking_work;

    #[test]
    fn a_name_is_looked_up_although_all_threads_for_blocking_work_hang() {
        without_threads_for_blocking_work(async {
            let issuer = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = issuer.local_addr().expect("bound").port();
            let url = format!("http://localhost:{port}/").parse().expect("a URL");
            let fetcher = Fetcher::new(url, Trust::SystemRoots, None).expect("TLS");
            let asking = async {
                loop {
                    let _late = fetcher.fetch().await;
                }
            };
            tokio::select! {
                connected = issuer.accept() => drop(connected.expect("accepted")),
                () = asking => panic!("without end"),
            }
        });
    }
}
