//! Which requests a web page of somebody else has sent.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request,
    header::{HOST, ORIGIN},
};

/// The answer to a request of another site's page.
pub(super) const FOREIGN: &str = "\
a web page of another site has sent this request, and such a page is told nothing and changes nothing here
";
/// The answer to a change by any page.
pub(super) const NO_PAGE: &str = "\
a web page has sent this request, and no page may change anything here: use curl or the like
";

/// How the site that asks belongs to the one that is asked. Browsers add it, and no page can change it.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const DESTINATION: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Why a request is not answered that a web page has sent. `None`: it is answered.
///
/// Somebody who reaches this port may have any page open in the browser. The page cannot read what it
/// has no leave to (no answer allows other origins anything), but the request is made all the same, with
/// the token of a proxy in between, and an answer that is loaded as an image or a script is in the
/// page's process. So the page of another site gets nothing, whatever `Host` it has asked for. A link to this
/// port may be followed from anywhere: the browser then shows the page by itself.
pub(super) fn refusal<B>(request: &Request<B>) -> Option<&'static str> {
    let headers = request.headers();
    let is_read = request.method() == Method::GET || request.method() == Method::HEAD;
    if is_of_another_site(headers) {
        Some(FOREIGN)
    } else if headers.contains_key(ORIGIN) && !is_read {
        // The bridge's own page changes nothing, so whatever is sent from it is not its own either.
        Some(NO_PAGE)
    } else {
        None
    }
}

fn is_of_another_site(headers: &HeaderMap) -> bool {
    let own = headers.get(HOST).map(HeaderValue::as_bytes);
    if headers.get_all(ORIGIN).iter().any(|origin| !is_origin_of(origin, own)) {
        return true;
    }
    let is = |name, value: &str| headers.get(name).is_some_and(|given| *given == *value);
    let is_own = !headers.contains_key(SITE) || is(SITE, "same-origin") || is(SITE, "none");
    let is_followed = is(MODE, "navigate") && is(DESTINATION, "document");
    !is_own && !is_followed
}

/// Whether an `Origin` is that of a page of this port. TLS may end before it.
fn is_origin_of(origin: &HeaderValue, own: Option<&[u8]>) -> bool {
    let origin = origin.as_bytes();
    let authority = [&b"http://"[..], b"https://"].iter().find_map(|s| origin.strip_prefix(*s));
    authority.zip(own).is_some_and(|(authority, own)| authority.eq_ignore_ascii_case(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer to a request with these headers by a browser that asks for `localhost:9090`.
    fn answer(method: &str, headers: &[(&str, &str)]) -> Option<&'static str> {
        let mut request = Request::builder().method(method).header(HOST, "localhost:9090");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        refusal(&request.body(()).unwrap())
    }

    #[test]
    fn whoever_is_no_page_of_another_site_may_read() {
        for headers in [
            &[][..],
            &[("origin", "http://localhost:9090")],
            &[("origin", "https://LocalHost:9090")],
            &[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")],
            &[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "no-cors")],
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ],
        ] {
            assert_eq!(answer("GET", headers), None, "{headers:?}");
            assert_eq!(answer("HEAD", headers), None, "{headers:?}");
        }
        assert_eq!(answer("PUT", &[]), None, "curl");
    }

    #[test]
    fn pages_of_other_sites_neither_read_nor_change() {
        for headers in [
            &[("origin", "http://evil.example")][..],
            &[("origin", "null")],
            &[("origin", "")],
            // Another program on the same host.
            &[("origin", "http://localhost:3000")],
            &[("origin", "http://localhost")],
            &[("origin", "http://127.0.0.1:9090")],
            &[("origin", "http://localhost:9090.evil.example")],
            &[("origin", "file://localhost:9090")],
            &[("origin", "http://localhost:9090"), ("origin", "http://evil.example")],
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
            &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")],
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "iframe"),
            ],
            &[("sec-fetch-site", "something new")],
        ] {
            for method in ["GET", "HEAD", "PUT", "OPTIONS", "POST"] {
                assert_eq!(answer(method, headers), Some(FOREIGN), "{method} {headers:?}");
            }
        }
    }

    #[test]
    fn no_page_at_all_changes_anything() {
        assert_eq!(answer("PUT", &[("origin", "http://localhost:9090")]), Some(NO_PAGE));
    }
}
