//! Checks the name lookup and the TCP connection.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http::Uri;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{AddressCheck, Reached, Stop};

impl AddressCheck<'_> {
    pub(super) async fn network(&mut self) -> Result<Reached, Stop> {
        let (host, port) = host_and_port(self.url);
        let addrs = self.name(&host, port).await?;
        let addr = self.tcp(&addrs).await?;
        Ok(Reached { host, addr })
    }

    async fn name(&mut self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Stop> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            self.ok("name", format!("{host} is an IP address; nothing to look up"));
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let cause = match within(self.tenant.timeouts.connect, lookup_host((host, port))).await {
            Ok(found) => {
                let addrs: Vec<_> = found.collect();
                if !addrs.is_empty() {
                    let ips: Vec<_> = addrs.iter().map(|addr| addr.ip().to_string()).collect();
                    self.ok("name", format!("{host} is {}", ips.join(", ")));
                    return Ok(addrs);
                }
                "no address".to_owned()
            }
            Err(error) => error.to_string(),
        };
        let remedy = format!(
            "check the name in {}, and which name server this machine or pod asks \
             (/etc/resolv.conf); an IP address works too if the certificate names it or is pinned",
            self.key("base_urls")
        );
        Err(self.problem("name", format!("{host} has no address ({cause})"), remedy))
    }

    /// Connects to every address, and returns the first one that accepts a connection.
    async fn tcp(&mut self, addrs: &[SocketAddr]) -> Result<SocketAddr, Stop> {
        let mut reached = Vec::new();
        let mut missed = Vec::new();
        for addr in addrs {
            match within(self.tenant.timeouts.connect, TcpStream::connect(addr)).await {
                Ok(_stream) => reached.push(*addr),
                Err(error) => missed.push((*addr, error)),
            }
        }
        // A host's own name often has an IPv4 and an IPv6 loopback address, and servers often listen on
        // only one of them.
        missed.retain(|(addr, _)| reached.is_empty() || !addr.ip().to_canonical().is_loopback());
        let causes: Vec<_> =
            missed.iter().map(|(addr, e)| format!("{addr} {}", failure_text(e))).collect();
        let causes = causes.join(", ");
        let Some(first) = reached.first().copied() else {
            let refused = missed.iter().any(|(_, e)| e.kind() == ErrorKind::ConnectionRefused);
            let remedy = if refused {
                format!(
                    "nothing listens there: check the port in {} (8043 where none is given), and \
                     that the gateway runs",
                    self.key("base_urls")
                )
            } else {
                "ask the network's operator to open a route from here to there: a firewall, a \
                 NetworkPolicy or a missing route prevents the connection"
                    .to_owned()
            };
            return Err(self.problem("tcp", causes, remedy));
        };
        let shown: Vec<_> = reached.iter().map(ToString::to_string).collect();
        let found = format!("connected to {}", shown.join(", "));
        if missed.is_empty() {
            self.ok("tcp", found);
        } else {
            let remedy = "calls use another address, but take longer; remove the dead address from the \
                          name server, or bring it up";
            self.warning("tcp", format!("{found}; but {causes}"), remedy);
        }
        Ok(first)
    }
}

/// Host and port. The configuration makes sure that every address has a port.
fn host_and_port(url: &Uri) -> (String, u16) {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    (host.to_owned(), url.port_u16().unwrap_or_default())
}

fn failure_text(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "refuses connections".to_owned(),
        _ => format!("cannot be reached ({error})"),
    }
}

/// Runs `work`, with an error if it takes longer than `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let late = |_| {
        let limit = humantime::format_duration(limit);
        Err(io::Error::new(ErrorKind::TimedOut, format!("nothing within {limit}")))
    };
    timeout(limit, work).await.unwrap_or_else(late)
}
