use std::error::Error;

/// The innermost cause of an error, which says most.
pub(crate) fn innermost(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
