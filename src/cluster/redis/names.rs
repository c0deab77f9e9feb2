use std::{io, net::SocketAddr};

use ::redis::{RedisFuture, RedisResult, io::AsyncDNSResolver};
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service as _;

use crate::resolver::Resolver;

/// Looks up the names of servers. The library would do it on the runtime's threads for blocking work.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Resolver);

impl Names {
    /// The addresses of this host, with port 0. There is at least one.
    pub(super) async fn addresses(&self, host: &str) -> RedisResult<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![SocketAddr::new(ip, 0)]);
        }
        let name = host.parse::<Name>().map_err(io::Error::other)?;
        let found = self.0.clone().call(name).await;
        let found = found.map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        let found: Vec<_> = found.collect();
        if found.is_empty() {
            // The library could not go on with none.
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into());
        }
        Ok(found)
    }
}

impl AsyncDNSResolver for Names {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        host: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let mut found = self.addresses(host).await?;
            for address in &mut found {
                address.set_port(port);
            }
            Ok(Box::new(found.into_iter()) as Box<dyn Iterator<Item = SocketAddr> + Send>)
        })
    }
}
