//! `[admin]`.

use std::{
    collections::BTreeMap,
    net::{Ipv6Addr, SocketAddr},
};

use super::{
    error::Problem,
    listeners::{Listener, ListenerName, address, overlap},
    reader::Section,
    scalar,
};

/// The admin port: health, readiness, metrics and the status page, over plain HTTP.
#[derive(Debug)]
pub struct Admin {
    /// The address to listen on; `None`: there is no admin port. `admin.address`.
    pub address: Option<SocketAddr>,
}

const DEFAULT_ADDRESS: (Ipv6Addr, u16) = (Ipv6Addr::UNSPECIFIED, 9090);

pub(super) fn admin(root: &Section<'_>, listeners: &BTreeMap<ListenerName, Listener>) -> Admin {
    let section = root.section("admin");
    let given = section.read("address", |node| match scalar::text(node)? {
        "off" => Ok(None),
        text => address(text).map(Some),
    });
    let address = given.unwrap_or(Some(DEFAULT_ADDRESS.into()));
    let taken = address.and_then(|address| {
        listeners.iter().find(|(_, listener)| overlap(listener.address, address))
    });
    if let (Some((name, listener)), Some(address)) = (taken, address) {
        let problem = format!("listener {name} is at {}, and admin at {address}", listener.address);
        let wrong = Problem::new(problem, "give each its own port, or admin.address = \"off\"");
        // If one of the two addresses is a default, the error names the other, which was given.
        let listener = root.section("listeners").chosen(name.as_str());
        let blamed = if section.has("address") { section } else { listener };
        blamed.contradiction(&["address"], wrong);
    }
    Admin { address }
}
