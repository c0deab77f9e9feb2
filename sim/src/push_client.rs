//! Sends events to the receivers of push mode, over HTTP/1.1 with or without TLS.

use std::{io, sync::Arc};

use http::Uri;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::identity::authorities;

/// Sends events. Clones share the settings of TLS.
#[derive(Clone, Debug)]
pub(super) struct PushClient {
    tls: Arc<ClientConfig>,
}

/// Takes any certificate, as most clients of real gateways do (client), but only from a server that has its
/// key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

/// The longest answer.
const MAX_ANSWER: u64 = 64 * 1024;

// === impl PushClient ===

impl PushClient {
    /// Sends over https only to receivers with a certificate of these authorities, which are PEM, or to any
    /// receiver.
    ///
    /// # Errors
    ///
    /// If there is no certificate in the text.
    pub(super) fn new(authorities_pem: Option<&str>) -> io::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        // TLS 1.2 or later, as the page about push mode demands (cec_07_1275).
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let builder = match authorities_pem {
            Some(pem) => builder.with_root_certificates(authorities(pem)?),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
        };
        Ok(Self { tls: Arc::new(builder.with_no_client_auth()) })
    }

    /// Sends a body, and returns the first line of the answer.
    pub(super) async fn post(&self, url: &str, guid: &str, body: &[u8]) -> io::Result<String> {
        let wrong = || invalid("pushUrl is neither http://host… nor https://host…");
        let url: Uri = url.parse().map_err(|_| wrong())?;
        let host = url.host().ok_or_else(wrong)?.trim_matches(['[', ']']);
        let is_https = match url.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let port = url.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let request = request(&url, guid, body);
        let stream = TcpStream::connect((host, port)).await?;
        if !is_https {
            return exchange(stream, &request).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
        let connector = TlsConnector::from(self.tls.clone());
        exchange(connector.connect(name, stream).await?, &request).await
    }
}

fn request(url: &Uri, guid: &str, body: &[u8]) -> Vec<u8> {
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let host = url.authority().map_or("", |authority| authority.as_str());
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nGuid: {guid}\r\nContent-Type: application/json;charset=UTF-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> io::Result<String> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    let read = stream.take(MAX_ANSWER).read_to_end(&mut answer).await;
    // A receiver that answers may end its connection without TLS's own end.
    if answer.is_empty() {
        read?;
    }
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

// === impl AnyCertificate ===

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
