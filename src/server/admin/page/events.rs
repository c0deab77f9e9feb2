use std::time::SystemTime;

use super::{cell, format::age, links};
use crate::server::{
    admin::html::Html,
    status::{EventStatus, Status, TenantStatus},
};

/// The last events of a tenant.
pub(super) fn section(html: &mut Html, tenant: &TenantStatus, status: &Status) {
    html.raw("<section class=\"card\">\n<h2>Last events</h2>\n");
    table(html, &tenant.tenant, &status.events, status.time);
    html.raw("<p class=\"empty\">One agent: /agent?tenant=").text(&tenant.tenant);
    html.raw("&amp;agent=ID, with its state, session, failed calls and events.</p>\n</section>\n");
}

/// A table of events of this tenant.
pub(super) fn table(html: &mut Html, tenant: &str, events: &[EventStatus], now: SystemTime) {
    if events.is_empty() {
        html.raw("<p class=\"empty\">none is kept</p>\n");
        return;
    }
    html.raw("<table class=\"stack\">\n<thead><tr><th>when</th><th>agent</th><th>event</th>");
    html.raw("<th>why</th></tr></thead>\n<tbody>\n");
    for EventStatus { time, agent, event, cause } in events {
        html.raw("<tr>");
        cell(html, "when", "short").text(age(now, *time)).raw(" ago</td>");
        cell(html, "agent", "short");
        links::agent(html, tenant, agent);
        html.raw("</td>");
        cell(html, "event", "").text(event).raw("</td>");
        cell(html, "why", "").text(cause.as_deref().unwrap_or_default()).raw("</td></tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
}
