//! `[admin]`.

use std::{
    collections::BTreeMap,
    net::{Ipv6Addr, SocketAddr},
};

use secrecy::SecretString;

use super::{
    error::{Problem, quote},
    listeners::{Listener, ListenerName, address, overlap},
    reader::Section,
    scalar,
};

/// The admin port: health, readiness, metrics and the status page, over plain HTTP.
#[derive(Debug)]
pub struct Admin {
    /// The address to listen on; `None`: there is no admin port. `admin.address`.
    pub address: Option<SocketAddr>,
    /// By which names it may be asked, besides its addresses and `localhost`. `admin.hosts`.
    pub hosts: Vec<HostName>,
    /// The token that requests have to bring, except for health and readiness; `None`: none is needed.
    /// `admin.token_file`.
    pub token: Option<SecretString>,
    /// Where people find the book; `None`: the page has no links to it. `admin.book`.
    pub book: Option<Book>,
}

/// The addresses of the book's pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book(String);

/// A host's name as it is in the `Host` header, in lower case, without port and final dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

const HOSTS_MAX: usize = 64;
/// What stands in [`Book`] for the path of a page.
const BOOK_PAGE: &str = "{page}";
const TOKEN_REMEDY: &str = "give the path of a file that holds the token alone";
const DEFAULT_ADDRESS: (Ipv6Addr, u16) = (Ipv6Addr::UNSPECIFIED, 9090);

pub(super) fn admin(root: &Section<'_>, listeners: &BTreeMap<ListenerName, Listener>) -> Admin {
    let section = root.section("admin");
    let given = section.read("address", |node| match scalar::text(node)? {
        "off" => Ok(None),
        text => address(text).map(Some),
    });
    let hosts = section.list("hosts", HOSTS_MAX, host).unwrap_or_default();
    let secret = section.secret("token_file", TOKEN_REMEDY);
    let book = section.read("book", |node| Book::parse(scalar::text(node)?));
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
    Admin { address, hosts, token: secret, book }
}

fn host(text: &str) -> Result<HostName, Problem> {
    HostName::parse(text).ok_or_else(|| {
        let problem = format!("{} is not the name of a host", quote(text));
        Problem::new(problem, "give a name such as \"bridge.example.com\", without scheme and port")
    })
}

impl HostName {
    /// Reads a name; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        const LENGTH_MAX: usize = 253;
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            !label.is_empty() && label.chars().all(fits)
        };
        let is_name = name.len() <= LENGTH_MAX && name.split('.').all(is_label);
        is_name.then(|| Self(name.to_ascii_lowercase()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Book {
    /// Reads the address of a page, with `{page}` in place of its path.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let is_of_the_web = text.starts_with("https://") || text.starts_with("http://");
        let is_written = text.chars().all(|c| c.is_ascii_graphic());
        if is_of_the_web && is_written && text.matches(BOOK_PAGE).count() == 1 {
            return Ok(Self(text.to_owned()));
        }
        let problem = format!("{} is not the address of the book's pages", quote(text));
        let remedy = "give an address with {page} in it, such as \"https://docs.example.com/ccgateway-bridge/{page}.html\"";
        Err(Problem::new(problem, remedy))
    }

    /// For tests of other modules.
    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The address of this page, such as `running/runbook`.
    pub fn page(&self, path: &str) -> String {
        self.0.replace(BOOK_PAGE, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_the_book_is_one_of_the_web_with_a_place_for_the_page() {
        let book = Book::parse("https://docs.example/b/{page}.html").expect("an address");
        assert_eq!(book.page("running/runbook"), "https://docs.example/b/running/runbook.html");
        for text in [
            "",
            "https://docs.example/",
            "https://docs.example/{page}/{page}",
            "javascript:alert('{page}')",
            "docs/{page}.md",
            "https://docs.example/a b/{page}",
        ] {
            assert!(Book::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_read_without_their_port_and_in_lower_case() {
        for (text, name) in [("bridge", "bridge"), ("Bridge.Ops.svc.", "bridge.ops.svc")] {
            assert_eq!(HostName::parse(text).unwrap().as_str(), name);
        }
        for text in ["", ".", "a..b", "bridge:9090", "http://bridge", "*.example", "a b", "\u{e4}"]
        {
            assert_eq!(HostName::parse(text), None, "{text}");
        }
    }
}
