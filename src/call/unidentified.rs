/// Why nobody knows who a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    /// It has shown neither a certificate nor a token, and this listener wants one of them.
    #[error("it has shown no certificate and no token that this listener takes")]
    Nothing,
    /// What it has shown was good, and this listener takes it no more, or in another way.
    #[error("what this listener takes has changed since the caller has shown it")]
    Changed,
    /// Its certificate has expired while it was connected.
    #[error("its certificate has expired")]
    CertificateExpired,
    /// There are several `authorization` headers.
    #[error("it has sent several authorization headers")]
    SeveralTokens,
    /// The token is no JWT.
    #[error("its token is not a JWT")]
    Malformed,
    /// The token's issuer is none of this listener's.
    #[error("its token is of an issuer that this listener does not take")]
    Issuer,
    /// The token is signed in a way that its issuer must not use.
    #[error("its token is signed with an algorithm that is not allowed for its issuer")]
    Algorithm,
    /// The issuer has no key of the token's key id.
    #[error("its token is signed with a key that its issuer does not have")]
    Key,
    /// The issuer's keys cannot be read, and those that were read before, if any, do not have the token's. So
    /// the token may be good.
    #[error("the keys of its token's issuer cannot be read at present")]
    KeysMissing,
    /// The signature is wrong.
    #[error("its token's signature is wrong")]
    Signature,
    /// The token is for somebody else.
    #[error("its token is for another audience")]
    Audience,
    /// The token lacks a claim.
    #[error("its token lacks a claim that the bridge needs (iss, aud or exp)")]
    Claims,
    /// The token has expired.
    #[error("its token has expired")]
    Expired,
    /// The token is not valid yet.
    #[error("its token is not valid yet")]
    NotYetValid,
    /// The token has no `sub` claim, or one that is too long.
    #[error("its token does not say who it is for (sub)")]
    Subject,
}
