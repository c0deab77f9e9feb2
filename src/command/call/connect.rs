use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use http::{HeaderValue, Uri};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use secrecy::zeroize::Zeroizing;

use super::{Mistake, Options};
use crate::{
    client::{self, AuthorizedChannel},
    config::is_this_machine,
    rpc::proto::{
        agent_events_client::AgentEventsClient, agent_session_client::AgentSessionClient,
        agent_state_client::AgentStateClient,
    },
    secret,
};

/// The clients of one bridge's services.
pub(super) struct Clients {
    pub(super) states: AgentStateClient<AuthorizedChannel>,
    pub(super) sessions: AgentSessionClient<AuthorizedChannel>,
    channel: AuthorizedChannel,
    origin: Uri,
}

impl Clients {
    /// Makes the clients; the connection itself is opened by the first call.
    pub(super) fn connect(options: &Options) -> Result<Self, Mistake> {
        let addr = &options.addr;
        let unusable =
            || Mistake(format!("--addr {addr}: give host and port, such as bridge:50051"));
        let authority: http::uri::Authority = addr.parse().map_err(|_| unusable())?;
        authority.port_u16().ok_or_else(unusable)?;

        let wants_tls =
            options.ca.is_some() || options.server_name.is_some() || options.certificate.is_some();
        let plaintext =
            !wants_tls && (options.insecure_plaintext || is_this_machine(authority.host()));
        let scheme = if plaintext { "http" } else { "https" };
        let origin: Uri = format!("{scheme}://{authority}").parse().map_err(|_| unusable())?;
        let roots = if plaintext { RootCertStore::empty() } else { roots(options)? };
        let tls = tls(roots, own_certificate(options)?);
        let tls = tls.map_err(|error| Mistake(error.to_string()))?;
        let channel = client::secure_channel_to(tls, server_name(options)?);
        let channel = AuthorizedChannel { channel, authorization: token(options)? };
        Ok(Self {
            states: AgentStateClient::with_origin(channel.clone(), origin.clone()),
            sessions: AgentSessionClient::with_origin(channel.clone(), origin.clone()),
            channel,
            origin,
        })
    }

    pub(super) fn events(&self) -> AgentEventsClient<AuthorizedChannel> {
        AgentEventsClient::with_origin(self.channel.clone(), self.origin.clone())
    }

    /// Whether --token-file may have another token by and by: it is a file, or is just being replaced by one. From a pipe, one
    /// token comes, and reading it once more would wait for ever.
    pub(super) fn may_get_token(options: &Options) -> bool {
        let is_file = |file: &PathBuf| {
            !is_stdin(file) && fs::metadata(file).ok().is_none_or(|found| found.is_file())
        };
        options.token_file.as_ref().is_some_and(is_file)
    }

    /// Has the next client of events show the token that --token-file has by now: the file is replaced when its token is about
    /// to expire. Returns whether that is another one. The one before stays while the file cannot be read.
    pub(super) fn read_token_again(&mut self, options: &Options) -> bool {
        if !Self::may_get_token(options) {
            return false;
        }
        let Ok(shown @ Some(_)) = token(options) else { return false };
        let is_another = self.channel.authorization != shown;
        self.channel.authorization = shown;
        is_another
    }
}

fn roots(options: &Options) -> Result<RootCertStore, Mistake> {
    let mut store = RootCertStore::empty();
    let certificates = match &options.ca {
        Some(file) => certificates("--ca", file, &read("--ca", file)?)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    if certificates.is_empty() {
        let mistake = "this machine has no root certificates; give --ca FILE, or \
                       --insecure-plaintext if nobody can read the network's traffic";
        return Err(Mistake(mistake.to_owned()));
    }
    store.add_parsable_certificates(certificates);
    Ok(store)
}

/// The name that the bridge's certificate has to be for; `None`: the host of --addr.
fn server_name(options: &Options) -> Result<Option<ServerName<'static>>, Mistake> {
    let Some(name) = &options.server_name else { return Ok(None) };
    let unusable = |_| Mistake(format!("--server-name {name}: give a host name, such as bridge"));
    ServerName::try_from(name.clone()).map(Some).map_err(unusable)
}

/// The certificates in the content of a PEM file that `option` names; at least one.
fn certificates(
    option: &str,
    file: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Mistake> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| unusable(option, file, "not valid PEM"))?;
    if found.is_empty() {
        return Err(unusable(option, file, "has no certificate"));
    }
    Ok(found)
}

type OwnCertificate = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What the caller shows of itself.
fn own_certificate(options: &Options) -> Result<Option<OwnCertificate>, Mistake> {
    let Some(file) = &options.certificate else { return Ok(None) };
    // Standard input can be read only once.
    let pem = read("--certificate", file)?;
    let chain = certificates("--certificate", file, &pem)?;
    let key = match &options.key {
        None => PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|_| unusable("--certificate", file, "has no usable private key; give --key")),
        Some(file) => PrivateKeyDer::from_pem_slice(&read("--key", file)?)
            .map_err(|_| unusable("--key", file, "has no usable private key")),
    };
    Ok(Some((chain, key?)))
}

fn token(options: &Options) -> Result<Option<HeaderValue>, Mistake> {
    let Some(file) = &options.token_file else { return Ok(None) };
    let header = secret::bearer(&read("--token-file", file)?);
    header.map(Some).ok_or_else(|| unusable("--token-file", file, "has no token"))
}

/// More than a chain of certificates with its key, or a token. It is a bound for pipes that do not end.
const STDIN_MAX: u16 = u16::MAX;

/// "-" is standard input: whoever calls in a pod from elsewhere has no files there.
fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn read(option: &str, file: &Path) -> Result<Zeroizing<Vec<u8>>, Mistake> {
    let content = if is_stdin(file) {
        // As long as it can become: to grow would leave copies behind.
        let mut content = Zeroizing::new(Vec::with_capacity(STDIN_MAX.into()));
        io::stdin().lock().take(STDIN_MAX.into()).read_to_end(&mut content).map(|_length| content)
    } else {
        fs::read(file).map(Zeroizing::new)
    };
    content.map_err(|error| unusable(option, file, &error.to_string()))
}

fn unusable(option: &str, file: &Path, why: &str) -> Mistake {
    Mistake(format!("{option} {}: {why}", file.display()))
}

fn tls(roots: RootCertStore, own: Option<OwnCertificate>) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions()?.with_root_certificates(roots);
    match own {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_again_and_stays_while_its_file_cannot_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        fs::write(&file, "first").expect("written");
        let options = Options {
            tenant: String::new(),
            addr: "127.0.0.1:1".to_owned(),
            ca: None,
            server_name: None,
            certificate: None,
            key: None,
            token_file: Some(file.clone()),
            insecure_plaintext: true,
            deadline: None,
            json: false,
        };
        let clients = Clients::connect(&options);
        let mut clients = clients.unwrap_or_else(|Mistake(mistake)| panic!("{mistake}"));
        for (content, is_another, shown) in [
            (Some("first"), false, "Bearer first"),
            (Some("second"), true, "Bearer second"),
            (None, false, "Bearer second"),
            (Some("third"), true, "Bearer third"),
        ] {
            match content {
                Some(content) => fs::write(&file, content).expect("written"),
                None => fs::remove_file(&file).expect("removed"),
            }
            assert_eq!(clients.read_token_again(&options), is_another, "{content:?}");
            let header = clients.channel.authorization.as_ref().expect("a token");
            assert_eq!(header.to_str().expect("text"), shown);
        }

        fs::remove_file(&file).expect("removed");
        let made = std::process::Command::new("mkfifo").arg(&file).status().expect("it runs");
        assert!(made.success());
        let pipe = file.clone();
        let writing = std::thread::spawn(move || fs::write(pipe, "fourth"));
        assert!(!clients.read_token_again(&options), "a pipe");
        assert!(!Clients::may_get_token(&options));
        assert_eq!(fs::read_to_string(&file).expect("read"), "fourth");
        writing.join().expect("no panic").expect("written");
    }
}
