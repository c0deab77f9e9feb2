//! `/`: the state of the bridge at a glance, and `/agent`: what is known of one agent. They need no script and no
//! other resource.

mod agent;
mod bridge;
mod events;
mod failures;
mod format;
mod links;
mod overview;
mod sign_ins;
mod sparkline;
mod tenant;

use self::format::age;
use super::html::Html;
use crate::{
    config::Book,
    server::{
        readiness::Phase,
        status::{AgentStatus, Status},
    },
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

const END: &str = "</main>\n</body>\n</html>\n";

/// The page for this status, of all tenants or of one.
pub(super) fn page(status: &Status, is_of_one: bool, book: Option<&Book>) -> String {
    let mut html = Html::default();
    html.raw(HEAD).raw("<title>ccgateway-bridge: ").text(overview::title(status));
    html.raw("</title>\n</head>\n<body>\n");
    header(&mut html, status);
    let own = match &status.tenants[..] {
        [tenant] if is_of_one => format!("/?tenant={}&", tenant.tenant),
        _ => "/?".to_owned(),
    };
    links::navigation(&mut html, &own, book);
    html.raw("<main>\n");
    overview::section(&mut html, status, is_of_one);
    warnings(&mut html, &status.warnings);
    // Of many tenants, each has a page of its own.
    if let [tenant] = &status.tenants[..] {
        tenant::section(&mut html, tenant, status, book);
    }
    failures::section(&mut html, status);
    if let [tenant] = &status.tenants[..] {
        events::section(&mut html, tenant, status);
    }
    bridge::section(&mut html, status);
    html.raw(END);
    html.done()
}

/// The page for one agent.
pub(super) fn agent(agent: &AgentStatus, book: Option<&Book>) -> String {
    let mut html = Html::default();
    html.raw(HEAD).raw("<title>ccgateway-bridge: agent ").text(&agent.agent);
    html.raw("</title>\n</head>\n<body>\n");
    agent::header(&mut html, agent);
    let own = format!("/agent?tenant={}&agent={}&", agent.tenant, agent.agent);
    links::navigation(&mut html, &own, book);
    html.raw("<main>\n");
    agent::sections(&mut html, agent);
    html.raw(END);
    html.done()
}

fn header(html: &mut Html, status: &Status) {
    let Status { version, commit, state, start_time, time, .. } = status;
    html.raw("<header>\n<h1>ccgateway-bridge</h1>\n");
    let is_ill = status.tenants.iter().any(|tenant| tenant.judgement.verdict.is_ill());
    let is_ill = is_ill || !overview::wrong_with_bridge(status).is_empty();
    let class = match state {
        // Ready for calls, which does not mean that all is well.
        Phase::Ready if is_ill => "quiet",
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

fn pill(html: &mut Html, class: &'static str, text: &str) {
    html.raw("<span class=\"pill ").raw(class).raw("\">").text(text).raw("</span>");
}

/// Begins a cell. On a narrow screen, `of` is shown before its content.
fn cell<'a>(html: &'a mut Html, of: &'static str, class: &'static str) -> &'a mut Html {
    html.raw("<td data-of=\"").raw(of).raw("\" class=\"").raw(class).raw("\">")
}

#[cfg(test)]
mod tests;
