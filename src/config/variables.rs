//! How the name of an environment variable spells a key: `CCGW__LOG__FILTER` is `log.filter`.

/// The prefix of the bridge's environment variables.
pub(super) const PREFIX: &str = "CCGW__";
/// Stands for the dot of a dotted key in the name of a variable.
pub(super) const SEPARATOR: &str = "__";

/// Whether a name would be ambiguous in a variable's name, because it contains the separator or would
/// form one with what follows.
pub(super) fn has_separator(name: &str) -> bool {
    name.contains(SEPARATOR) || name.ends_with('_')
}
