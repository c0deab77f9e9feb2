//! `/`: the state of the bridge at a glance. Needs no script and no other resource.

mod bridge;
mod format;
mod sign_ins;
mod tenant;

use self::format::age;
use super::html::Html;
use crate::{
    call::Outcome,
    rpc::Failure,
    server::{readiness::Phase, status::Status},
};

/// The page may use its own style and nothing else.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

const HEAD: &str = concat!(
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>\n",
    include_str!("page.css"),
    "</style>\n"
);

const LINKS: &str = "<nav>\
    <a href=\"/metrics\">/metrics</a> <a href=\"/status.json\">/status.json</a> \
    <a href=\"/readyz?verbose\">/readyz?verbose</a> <a href=\"/log\">/log</a> \
    <a href=\"/?refresh=5\">refresh every 5 s</a></nav>\n";

/// The page for this status.
pub(super) fn page(status: &Status) -> String {
    let mut html = Html::default();
    html.raw(HEAD).raw("<title>ccgateway-bridge: ").text(status.state);
    html.raw("</title>\n</head>\n<body>\n");
    header(&mut html, status);
    html.raw(LINKS).raw("<main>\n");
    warnings(&mut html, &status.warnings);
    for tenant in &status.tenants {
        tenant::section(&mut html, tenant, status);
    }
    failures(&mut html, &status.failures, status);
    bridge::section(&mut html, status);
    html.raw("</main>\n</body>\n</html>\n");
    html.done()
}

fn header(html: &mut Html, status: &Status) {
    let Status { version, commit, state, start_time, time, .. } = status;
    html.raw("<header>\n<h1>ccgateway-bridge</h1>\n");
    let class = match state {
        Phase::Ready => "good",
        Phase::Starting | Phase::Draining => "warn",
    };
    pill(html, class, state.as_str());
    html.raw("\n<p>").text(version).raw(" ").text(commit);
    html.raw(" · up for ").text(age(*time, *start_time));
    html.raw(" · ").text(crate::time::rfc3339(*time)).raw("</p>\n</header>\n");
}

fn warnings(html: &mut Html, warnings: &[String]) {
    if warnings.is_empty() {
        return;
    }
    html.raw(
        "<section class=\"card\">\n<h2 class=\"warn\">Unsafe in the configuration</h2>\n<ul>\n",
    );
    for warning in warnings {
        html.raw("<li>").text(warning).raw("</li>\n");
    }
    html.raw("</ul>\n</section>\n");
}

fn failures(html: &mut Html, failures: &[Failure], status: &Status) {
    html.raw("<section class=\"card\">\n<h2>Last failures</h2>\n");
    if failures.is_empty() {
        html.raw("<p class=\"empty\">No call has failed through the fault of a gateway or of the bridge.</p>\n");
        html.raw("</section>\n");
        return;
    }
    html.raw("<table class=\"stack\">\n<thead><tr><th>when</th><th>tenant</th><th>method</th>");
    html.raw("<th>reason</th><th>what happened</th></tr></thead>\n<tbody>\n");
    for failure in failures {
        html.raw("<tr>");
        cell(html, "when", "short").text(age(status.time, failure.time)).raw(" ago</td>");
        cell(html, "tenant", "").text(&failure.tenant).raw("</td>");
        cell(html, "method", "short").text(failure.method).raw("</td>");
        cell(html, "reason", "short small").text(&failure.reason);
        if let Some(retcode) = &failure.retcode {
            html.raw("<br>").text(retcode);
        }
        html.raw("</td>");
        what_happened(html, failure);
        html.raw("</tr>\n");
    }
    html.raw("</tbody>\n</table>\n</section>\n");
}

fn what_happened(html: &mut Html, failure: &Failure) {
    cell(html, "happened", "").text(&failure.error);
    if let Some(said) = &failure.gateway_message {
        html.raw(" <span class=\"quiet\">The gateway says: ").text(said).raw("</span>");
    }
    // Some errors say so themselves.
    if failure.outcome == Outcome::Unknown && !failure.error.contains("may have changed") {
        html.raw(" <span class=\"warn\">The agent may have changed.</span>");
    }
    html.raw("</td>");
}

fn pill(html: &mut Html, class: &'static str, text: &str) {
    html.raw("<span class=\"pill ").raw(class).raw("\">").text(text).raw("</span>");
}

/// Begins a cell. On a narrow screen, `of` is shown before its content.
fn cell<'a>(html: &'a mut Html, of: &'static str, class: &'static str) -> &'a mut Html {
    html.raw("<td data-of=\"").raw(of).raw("\" class=\"").raw(class).raw("\">")
}
