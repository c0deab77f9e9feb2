use crate::{config::Book, server::admin::html::Html};

const PAGES: &str = "<nav>\
    <a href=\"/\">all tenants</a> <a href=\"/metrics\">/metrics</a> <a href=\"/status.json\">/status.json</a> \
    <a href=\"/readyz?verbose\">/readyz?verbose</a> <a href=\"/log\">/log</a> <a href=\"/reload\">/reload</a> \
    <a href=\"";

/// The links at the top. `own` is the address of this page, with a query that goes on.
pub(super) fn navigation(html: &mut Html, own: &str, book: Option<&Book>) {
    html.raw(PAGES).text(own).raw("refresh=5\">refresh every 5 s</a>");
    for (words, page) in [
        ("how to read this page", "running/monitoring#the-page"),
        ("runbook", "running/runbook"),
        ("reasons of errors", "calling/errors"),
    ] {
        if let Some(book) = book {
            html.raw(" ");
            to_book(html, book, page).text(words).raw("</a>");
        }
    }
    html.raw("</nav>\n");
}

/// What a page of the book says, as a link if it is known where the book is.
pub(super) fn advice(html: &mut Html, book: Option<&Book>, page: &'static str) {
    html.raw(" <span class=\"quiet\">(");
    match book {
        Some(book) => to_book(html, book, page).raw("what to do</a>"),
        None => html.raw("what to do: docs/").raw(page),
    };
    html.raw(")</span>");
}

/// Begins a link to a page of the book, or to a section of it.
fn to_book<'a>(html: &'a mut Html, book: &Book, page: &'static str) -> &'a mut Html {
    let (path, section) = page.split_once('#').unwrap_or((page, ""));
    html.raw("<a href=\"").text(book.page(path));
    if !section.is_empty() {
        html.raw("#").raw(section);
    }
    html.raw("\">")
}

/// A link to the page of a tenant.
pub(super) fn tenant(html: &mut Html, tenant: &str) {
    html.raw("<a href=\"/?tenant=").text(tenant).raw("\">").text(tenant).raw("</a>");
}

/// A link to the page of an agent.
pub(super) fn agent(html: &mut Html, tenant: &str, agent: &str) {
    html.raw("<a href=\"/agent?tenant=").text(tenant).raw("&amp;agent=").text(agent);
    html.raw("\">").text(agent).raw("</a>");
}
