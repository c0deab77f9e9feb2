//! Replaces the ports in a page by free ports, and back.

use std::{collections::BTreeMap, net::TcpListener};

use rand::RngExt as _;

const HOSTS: [&str; 5] = ["127.0.0.1:", "localhost:", "0.0.0.0:", "[::1]:", "[::]:"];

/// For each port of this machine that a page names the one that is used instead.
#[derive(Debug, Default)]
pub(super) struct Ports(BTreeMap<String, String>);

impl Ports {
    pub(super) fn of(known: [(&str, &str); 4]) -> Self {
        Self(known.map(|(named, used)| (named.to_owned(), used.to_owned())).into())
    }

    /// The text with the ports that are used. One that was not named before gets a free one.
    pub(super) fn used_for(&mut self, text: &str) -> String {
        replaced(text, |port| {
            self.0.entry(port.to_owned()).or_insert_with(|| free().to_string()).clone()
        })
    }

    /// What was printed, with the ports that the page names.
    pub(super) fn named_in(&self, text: &str) -> String {
        replaced(text, |port| {
            let named = self.0.iter().find(|(_, used)| *used == port).map(|(named, _)| named);
            named.map_or(port, String::as_str).to_owned()
        })
    }
}

/// A free port below those that the kernel gives to clients and to the listeners of other tests.
fn free() -> u16 {
    let ports = std::iter::repeat_with(|| rand::rng().random_range(10_000..30_000));
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.take(1_000).find(free).expect("one of a thousand ports is free")
}

/// Replaces the ports, of four digits or more, behind the names of this machine.
fn replaced(text: &str, mut port_for: impl FnMut(&str) -> String) -> String {
    let mut whole = String::new();
    let mut rest = text;
    let next = |rest: &str| {
        let ends = HOSTS.iter().filter_map(|host| rest.find(host).map(|at| at + host.len()));
        ends.min()
    };
    while let Some(at) = next(rest) {
        let (before, behind) = rest.split_at(at);
        let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
        let (port, behind) = behind.split_at(digits);
        whole += before;
        whole += &if digits < 4 { port.to_owned() } else { port_for(port) };
        rest = behind;
    }
    whole + rest
}

#[test]
fn a_port_is_replaced_wherever_it_is_named_and_back() {
    let mut ports =
        Ports::of([("50051", "4001"), ("8044", "4002"), ("9090", "4003"), ("8043", "4004")]);
    let page = "curl localhost:9090/a 127.0.0.1:50051,[::1]:8044 127.0.0.1:9 10.0.0.1:9090 x:8043";
    let used = "curl localhost:4003/a 127.0.0.1:4001,[::1]:4002 127.0.0.1:9 10.0.0.1:9090 x:8043";
    assert_eq!(ports.used_for(page), used);
    assert_eq!(ports.named_in(used), page);

    let own = ports.used_for("127.0.0.1:50052");
    assert_ne!(own, "127.0.0.1:50052");
    assert_eq!(ports.used_for("0.0.0.0:50052").rsplit(':').next(), own.rsplit(':').next());
    assert_eq!(ports.named_in(&own), "127.0.0.1:50052");
}
