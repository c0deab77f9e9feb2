//! What stands after the `?` of an address.

/// The value that a query has for this name. Nothing is unescaped: no tenant, agent or number needs it.
pub(super) fn value<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_of_a_name_is_found_among_others() {
        for (query, expected) in [
            (None, None),
            (Some(""), None),
            (Some("tenant"), None),
            (Some("tenant="), Some("")),
            (Some("refresh=5&tenant=acme&tenant=b"), Some("acme")),
            (Some("atenant=a&tenants=b"), None),
            (Some("tenant=a=b"), Some("a=b")),
        ] {
            assert_eq!(value(query, "tenant"), expected, "{query:?}");
        }
    }
}
