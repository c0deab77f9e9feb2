//! The anchors of headings.

/// The text of a heading without its marks: what a browser shows.
pub(super) fn plain(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading;
    // Of a link its text alone.
    while let Some((before, behind)) = rest.split_once("](") {
        let (open, linked) = before.rsplit_once('[').unwrap_or(("", before));
        text.extend([open, linked]);
        rest = behind.split_once(')').map_or("", |(_, rest)| rest);
    }
    text += rest;
    text.replace(['`', '*'], "")
}

/// As GitHub makes an anchor of a heading's text.
fn github(text: &str) -> String {
    let kept = text.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || ['-', '_', ' '].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// As mdBook does: other white space than a blank counts too.
fn mdbook(text: &str) -> String {
    let lower = text.trim().to_lowercase();
    let kept = lower.chars().filter_map(|c| match c {
        c if c.is_alphanumeric() || c == '_' || c == '-' => Some(c),
        c if c.is_whitespace() => Some('-'),
        _ => None,
    });
    kept.collect()
}

/// The anchor of a heading, on which both have to agree.
pub(super) fn slug(heading: &str) -> Result<String, String> {
    let text = plain(heading);
    // mdBook takes `{#anchor}` for an anchor; to GitHub it is text.
    if text.contains("{#") {
        return Err(format!("the heading {heading:?} has an anchor that GitHub does not know"));
    }
    let (one, other) = (github(&text), mdbook(&text));
    if one != other {
        return Err(format!(
            "the heading {heading:?} is #{one} at GitHub and #{other} in the book"
        ));
    }
    Ok(one)
}

/// The anchors of a page's headings: a second one of the same text ends in `-1`.
pub(super) fn numbered(slugs: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut used: Vec<String> = Vec::new();
    for slug in slugs {
        let later = (1..).map(|number| format!("{slug}-{number}"));
        let free = [slug.clone()].into_iter().chain(later).find(|slug| !used.contains(slug));
        used.extend(free);
    }
    used
}

#[test]
fn anchors_of_headings_are_as_github_and_mdbook_make_them() {
    for (heading, expected) in [
        ("Try it", "try-it"),
        ("Try it: dev", "try-it-dev"),
        ("What is not known of the gateway", "what-is-not-known-of-the-gateway"),
        ("Who owns the Guid?", "who-owns-the-guid"),
        ("`server.limits.calls`", "serverlimitscalls"),
        ("`[tenants.NAME.tls]`", "tenantsnametls"),
        ("CcgwDown", "ccgwdown"),
        ("Metrics, log fields and spans", "metrics-log-fields-and-spans"),
        ("A – B", "a--b"),
        ("max_time and -v", "max_time-and--v"),
        ("See [the *README*](../README.md#x) first", "see-the-readme-first"),
        ("Überfall: 2 × 3", "überfall-2--3"),
    ] {
        assert_eq!(slug(heading).as_deref(), Ok(expected), "{heading}");
    }
    for heading in ["A\u{a0}b", "Errors {#errors}"] {
        assert!(slug(heading).is_err(), "{heading}");
    }
}

#[test]
fn a_heading_that_is_there_before_gets_a_number() {
    let slugs = ["a", "b", "a", "a", "a-1"].map(str::to_owned);
    assert_eq!(numbered(slugs), ["a", "b", "a-1", "a-2", "a-1-1"]);
}
