//! What was built.

/// The version alone, such as `0.1.0`.
pub const NUMBER: &str = env!("CARGO_PKG_VERSION");
/// The commit that it was built from; empty where that is not known.
pub const COMMIT: &str = env!("CCGW_BUILD_COMMIT");
/// Both, as `--version` prints them.
pub const VERSION: &str = env!("CCGW_BUILD_VERSION");
/// The day of its release, such as `2026-12-31`, or of the commit where it is not released; empty where nobody knows.
pub const DAY: &str = env!("CCGW_BUILD_DAY");
