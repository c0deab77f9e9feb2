//! How the name of an environment variable spells a key: `CCGW__LOG__FILTER` is `log.filter`.

/// What the names of the bridge's environment variables start with.
pub(super) const PREFIX: &str = "CCGW__";
/// What stands in them for the dot of a key.
pub(super) const SEPARATOR: &str = "__";

/// Whether a name cannot be told, in the name of a variable, from what stands around it.
pub(super) fn has_separator(name: &str) -> bool {
    name.contains(SEPARATOR) || name.ends_with('_')
}
