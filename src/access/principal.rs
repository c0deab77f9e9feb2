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
            Self::Uri(uri) => f.write_str(uri),
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::CommonName(name) => write!(f, "cn:{name}"),
            Self::Token { issuer, subject } => write!(f, "jwt:{issuer}:{subject}"),
        }
    }
}
