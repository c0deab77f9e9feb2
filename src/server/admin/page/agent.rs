use std::time::Duration;

use super::{
    cell, events,
    format::{age, span},
    links,
};
use crate::server::{admin::html::Html, status::AgentStatus};

/// Which agent it is.
pub(super) fn header(html: &mut Html, agent: &AgentStatus) {
    html.raw("<header>\n<h1>Agent ").text(&agent.agent).raw(" of ");
    links::tenant(html, &agent.tenant);
    html.raw("</h1>\n<p>").text(crate::time::rfc3339(agent.time)).raw("</p>\n</header>\n");
}

/// What is known of it.
pub(super) fn sections(html: &mut Html, agent: &AgentStatus) {
    html.raw("<section class=\"card\">\n<h2>Now</h2>\n<table>\n<tbody>\n");
    let unsaid = "its events do not say";
    line(html, "state", agent.state.as_deref().unwrap_or(unsaid));
    let unkept = "not kept by the bridge";
    line(html, "session", &agent.session_state.unwrap_or(unkept).replace('_', " "));
    line(html, "Guid", &guid(agent));
    let polled = if agent.is_polled_here { "by this replica" } else { "not by this replica" };
    line(html, "polled", polled);
    let known = if agent.has_credentials { "in the configuration" } else { "a caller's, if any" };
    line(html, "password", known);
    if let Some(taken) = &agent.taken_over {
        let given_up = if taken.given_up { ", and the bridge has given it up" } else { "" };
        let (attempts, after) = (taken.attempts, "sign-ins found it with another client");
        line(html, "another client", &format!("{attempts} {after}{given_up}"));
    }
    html.raw("</tbody>\n</table>\n</section>\n<section class=\"card\">\n");
    html.raw("<h2>Last calls that failed or were refused</h2>\n");
    calls(html, agent);
    html.raw(
        "<p class=\"empty\">Calls that succeed and batches leave nothing here: they are in the log.</p>\n",
    );
    html.raw("</section>\n<section class=\"card\">\n<h2>Last events</h2>\n");
    events::table(html, &agent.tenant, &agent.events, agent.time);
    html.raw("</section>\n");
}

fn line(html: &mut Html, name: &'static str, value: &str) {
    html.raw("<tr><td class=\"quiet\">").raw(name).raw("</td><td>").text(value);
    html.raw("</td></tr>\n");
}

fn guid(agent: &AgentStatus) -> String {
    let Some(session) = &agent.session else { return "this replica knows of none".to_owned() };
    let made = match session.origin {
        "registered" => "registered by a caller",
        _ => "from a sign-in of the bridge",
    };
    let renewed = age(agent.time, session.renewed_time);
    let ends = session.expires_in_seconds.map(Duration::from_secs).map(span);
    let ends = ends.map(|left| format!(", forgotten in {left} unless it is renewed"));
    format!("{made}, stored {renewed} ago{}", ends.unwrap_or_default())
}

fn calls(html: &mut Html, agent: &AgentStatus) {
    if agent.failed_calls.is_empty() {
        html.raw("<p class=\"empty\">none is kept</p>\n");
        return;
    }
    html.raw("<table class=\"stack\">\n<thead><tr><th>when</th><th>method</th><th>code</th>");
    html.raw("<th>reason</th><th>outcome</th></tr></thead>\n<tbody>\n");
    for call in &agent.failed_calls {
        html.raw("<tr>");
        cell(html, "when", "short").text(age(agent.time, call.time)).raw(" ago</td>");
        cell(html, "method", "short").text(call.method).raw("</td>");
        cell(html, "code", "short small").text(call.code).raw("</td>");
        cell(html, "reason", "short small").text(&call.reason);
        if let Some(retcode) = &call.retcode {
            html.raw("<br>").text(retcode);
        }
        html.raw("</td>");
        cell(html, "outcome", "short").text(call.outcome.as_str().replace('_', " "));
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
}
