use std::fmt;

use super::Principal;

/// Which principals a rule is about, as the configuration writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrincipalPattern {
    /// `*`: everybody who has shown who it is.
    Identified,
    /// `anonymous`: everybody who has not, where a listener allows that.
    Anonymous,
    /// `spiffe://…` or another URI. With a final `/*`, everything below, but nothing with a part `.` or `..`.
    Uri(Text),
    /// `dns:name`. With a first label `*`, any one label in its place.
    Dns(Box<str>),
    /// `cn:name`.
    CommonName(Box<str>),
    /// `jwt:issuer:subject`. With a final `*` after a colon or a slash, every subject that begins so;
    /// `jwt:issuer:*` is everybody with a token of that issuer.
    Token {
        /// The issuer's name in the configuration.
        issuer: Box<str>,
        /// The subject.
        subject: Text,
    },
}

/// A text, or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// Exactly this one.
    Exactly(Box<str>),
    /// Every longer one that begins so.
    Below(Box<str>),
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// It begins with none of the words that a pattern begins with.
    #[error("is no principal")]
    Unknown,
    /// A `*` stands where none may be.
    #[error("has a \"*\" that is neither the last part nor the first label of a DNS name")]
    Star,
    /// There is nothing after its first word.
    #[error("names nobody")]
    Empty,
}

// === impl PrincipalPattern ===

impl PrincipalPattern {
    /// What patterns look like, for whoever has to correct one.
    pub const FORMS: &'static str = "give \"spiffe://domain/path\", \"spiffe://domain/path/*\", \
        \"dns:name\", \"cn:name\", \"jwt:issuer:subject\", \"anonymous\", or \"*\" for everybody who is known";

    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        match text {
            "*" => return Ok(Self::Identified),
            "anonymous" => return Ok(Self::Anonymous),
            _ => {}
        }
        let (kind, rest) = text.split_once(':').ok_or(InvalidPattern::Unknown)?;
        match kind {
            "dns" => dns(rest),
            "cn" => Ok(Self::CommonName(named(rest)?.into())),
            "jwt" => {
                let (issuer, subject) = rest.split_once(':').ok_or(InvalidPattern::Empty)?;
                let (issuer, subject) = (named(issuer)?.into(), Text::parse(subject, &[':', '/'])?);
                Ok(Self::Token { issuer, subject })
            }
            _ if rest.starts_with("//") => {
                if rest.len() == 2 {
                    return Err(InvalidPattern::Empty);
                }
                Ok(Self::Uri(Text::parse(text, &['/'])?))
            }
            _ => Err(InvalidPattern::Unknown),
        }
    }

    /// Whether it is about this principal.
    pub fn is_about(&self, principal: &Principal) -> bool {
        match (self, principal) {
            (Self::Identified, principal) => *principal != Principal::Anonymous,
            (Self::Anonymous, Principal::Anonymous) => true,
            (Self::Uri(uri @ Text::Below(_)), Principal::Uri(own)) => uri.is(own) && !climbs(own),
            (Self::Uri(uri), Principal::Uri(own)) => uri.is(own),
            (Self::Dns(name), Principal::Dns(own)) => is_dns(name, own),
            (Self::CommonName(name), Principal::CommonName(own)) => name == own,
            (
                Self::Token { issuer, subject },
                Principal::Token { issuer: own, subject: own_subject },
            ) => issuer == own && subject.is(own_subject),
            _ => false,
        }
    }

    /// The issuer that it names.
    pub fn issuer(&self) -> Option<&str> {
        if let Self::Token { issuer, .. } = self { Some(issuer) } else { None }
    }
}

/// A text that is not empty and has no `*`.
fn named(text: &str) -> Result<&str, InvalidPattern> {
    match text {
        "" => Err(InvalidPattern::Empty),
        _ if text.contains('*') => Err(InvalidPattern::Star),
        _ => Ok(text),
    }
}

fn dns(name: &str) -> Result<PrincipalPattern, InvalidPattern> {
    named(name.strip_prefix("*.").unwrap_or(name))?;
    Ok(PrincipalPattern::Dns(name.to_ascii_lowercase().into()))
}

fn is_dns(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        None => pattern == name,
        Some(domain) => {
            name.split_once('.').is_some_and(|(first, rest)| !first.is_empty() && rest == domain)
        }
    }
}

/// Whether a URI has a part `.` or `..`, however it is written (RFC 3986, section 6.2.2). For whoever resolves those, it
/// stands elsewhere than it seems to.
fn climbs(uri: &str) -> bool {
    let plain = uri.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/");
    plain.split(['/', '\\', '?', '#']).any(|part| matches!(part, "." | ".."))
}

// === impl Text ===

impl Text {
    /// Reads a text. `*` at its end, alone or after one of `separators`, is any rest.
    fn parse(text: &str, separators: &[char]) -> Result<Self, InvalidPattern> {
        match text.strip_suffix('*') {
            None => Ok(Self::Exactly(named(text)?.into())),
            Some("") => Ok(Self::Below("".into())),
            Some(begin) if begin.ends_with(separators) => Ok(Self::Below(named(begin)?.into())),
            Some(_) => Err(InvalidPattern::Star),
        }
    }

    fn is(&self, text: &str) -> bool {
        match self {
            Self::Exactly(exact) => **exact == *text,
            Self::Below(begin) => text.strip_prefix(&**begin).is_some_and(|rest| !rest.is_empty()),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(text) => f.write_str(text),
            Self::Below(begin) => write!(f, "{begin}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(uri: &str) -> Principal {
        Principal::Uri(uri.into())
    }

    fn dns(name: &str) -> Principal {
        Principal::Dns(name.into())
    }

    fn cn(name: &str) -> Principal {
        Principal::CommonName(name.into())
    }

    fn jwt(issuer: &str, subject: &str) -> Principal {
        Principal::Token { issuer: issuer.into(), subject: subject.into() }
    }

    #[test]
    fn a_pattern_is_about_those_it_says_and_no_others() {
        let principals = [
            Principal::Anonymous,
            uri("spiffe://prod/ns/ivr/sa/a"),
            uri("spiffe://prod/ns/ivr/sa/ab"),
            uri("spiffe://prod/ns/ivr/sa/"),
            uri("spiffe://prod.ns/ivr/sa/a"),
            dns("ivr.example"),
            dns("a.ivr.example"),
            dns("a.b.ivr.example"),
            dns(".ivr.example"),
            cn("ivr"),
            cn("dns:ivr.example"),
            jwt("k8s", "system:serviceaccount:ivr:a"),
            jwt("k8s", "system:serviceaccount:ivr2:a"),
            jwt("other", "system:serviceaccount:ivr:a"),
        ];
        for (pattern, expected) in [
            ("*", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13][..]),
            ("anonymous", &[0]),
            ("spiffe://prod/ns/ivr/sa/a", &[1]),
            ("spiffe://prod/ns/ivr/sa/*", &[1, 2]),
            ("spiffe://prod/*", &[1, 2, 3]),
            ("dns:ivr.example", &[5]),
            ("dns:IVR.example", &[5]),
            ("dns:*.ivr.example", &[6]),
            ("cn:ivr", &[9]),
            ("jwt:k8s:system:serviceaccount:ivr:a", &[11]),
            ("jwt:k8s:system:serviceaccount:ivr:*", &[11]),
            ("jwt:k8s:system:*", &[11, 12]),
            ("jwt:k8s:*", &[11, 12]),
        ] {
            let parsed = PrincipalPattern::parse(pattern).unwrap();
            let about: Vec<_> =
                (0..principals.len()).filter(|&at| parsed.is_about(&principals[at])).collect();
            assert_eq!(about, expected, "{pattern}");
        }
    }

    #[test]
    fn what_leads_out_of_a_path_is_not_below_it() {
        let below = PrincipalPattern::parse("spiffe://prod/ns/ivr/*").unwrap();
        for (id, expected) in [
            ("spiffe://prod/ns/ivr/sa/a", true),
            ("spiffe://prod/ns/ivr/..a/.b/c..", true),
            ("spiffe://prod/ns/ivr/../billing/sa/a", false),
            ("spiffe://prod/ns/ivr/sa/..", false),
            ("spiffe://prod/ns/ivr/./a", false),
            ("spiffe://prod/ns/ivr/%2E%2e/billing", false),
            ("spiffe://prod/ns/ivr/.%2e%2Fbilling", false),
        ] {
            assert_eq!(below.is_about(&uri(id)), expected, "{id}");
        }
        let written = "spiffe://prod/ns/ivr/../billing";
        let exactly = PrincipalPattern::parse(written).unwrap();
        assert!(exactly.is_about(&uri(written)));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        use InvalidPattern::{Empty, Star, Unknown};
        for (text, why) in [
            ("", Unknown),
            ("ivr", Unknown),
            ("Anonymous", Unknown),
            ("uri:x", Unknown),
            ("spiffe:/x", Unknown),
            ("spiffe://", Empty),
            ("spiffe://a*", Star),
            ("spiffe://*/a", Star),
            ("dns:", Empty),
            ("dns:*", Star),
            ("dns:a.*.b", Star),
            ("dns:*.", Empty),
            ("cn:", Empty),
            ("cn:*", Star),
            ("jwt:k8s", Empty),
            ("jwt::a", Empty),
            ("jwt:*:a", Star),
            ("jwt:k8s:", Empty),
            ("jwt:k8s:a*", Star),
        ] {
            assert_eq!(PrincipalPattern::parse(text), Err(why), "{text}");
        }
    }
}
