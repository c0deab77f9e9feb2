use std::fmt;

/// Who a caller is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// It has shown nothing, and need not.
    Anonymous,
    /// By a URI in its certificate, such as a SPIFFE id.
    Uri(Box<str>),
    /// By a DNS name in its certificate, in lower case.
    Dns(Box<str>),
    /// By the common name of its certificate's subject.
    CommonName(Box<str>),
    /// By a token.
    Token {
        /// The issuer's name in the configuration.
        issuer: Box<str>,
        /// Its `sub` claim.
        subject: Box<str>,
    },
}

/// The longest name of a principal, in bytes. A longer name of a certificate does not count, and a token
/// with a longer subject is refused. SPIFFE allows 2 048 bytes; nobody is known to use more than a few hundred.
pub(super) const NAME_MAX: usize = 512;

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Uri(uri) if is_plain(uri) => f.write_str(uri),
            Self::Uri(uri) => write!(f, "uri:{uri}"),
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::CommonName(name) => write!(f, "cn:{name}"),
            Self::Token { issuer, subject } => write!(f, "jwt:{issuer}:{subject}"),
        }
    }
}

/// Whether a URI is shown as it is. No other principal must look like it.
fn is_plain(uri: &str) -> bool {
    uri.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.contains(':') && !["cn", "dns", "jwt", "uri"].contains(&scheme)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_uri_is_shown_like_another_principal() {
        for (uri, shown) in [
            ("spiffe://prod/ivr", "spiffe://prod/ivr"),
            ("https://ivr.example/cn:x", "https://ivr.example/cn:x"),
            ("cn:operator", "uri:cn:operator"),
            ("cn://operator", "uri:cn://operator"),
            ("cn:a://operator", "uri:cn:a://operator"),
            ("jwt:k8s:x", "uri:jwt:k8s:x"),
            ("urn:ivr", "uri:urn:ivr"),
            ("anonymous", "uri:anonymous"),
            ("uri:cn:operator", "uri:uri:cn:operator"),
            ("uri://x", "uri:uri://x"),
            ("//x", "uri://x"),
        ] {
            assert_eq!(Principal::Uri(uri.into()).to_string(), shown);
        }
    }
}
