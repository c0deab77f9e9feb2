//! Why calls came to nothing. Calls with the same cause share a row.

use super::{cell, format::age, links};
use crate::{
    call::Outcome,
    rpc::{Failure, FailureGroup},
    server::{admin::html::Html, status::Status},
};

/// The most rows of each table.
const ROWS_MAX: usize = 30;

/// The section on failed and refused calls.
pub(super) fn section(html: &mut Html, status: &Status) {
    let (refusals, failures): (Vec<_>, Vec<_>) =
        status.failure_groups.iter().partition(|group| group.refused);
    html.raw("<section class=\"card\">\n<h2>Failed calls, since the start</h2>\n");
    let failed: u64 = status.tenants.iter().map(|tenant| tenant.since_start.failed()).sum();
    match failed {
        _ if !failures.is_empty() => table(html, &failures, status),
        0 => {
            html.raw("<p class=\"empty\">No call has failed through the fault of a gateway or of the bridge.</p>\n");
        }
        // Where many tenants have failures, not all are kept. And those of a bridge that stops are ordinary.
        _ => {
            html.raw("<p class=\"empty\">Calls that failed: ").text(failed);
            html.raw(". What they were told is not kept here, but is in the log.</p>\n");
        }
    }
    if !refusals.is_empty() {
        html.raw("<h2>Refused calls, since the start</h2>\n");
        html.raw("<p class=\"empty\">For what was asked, for the agent's state, or because one caller asks too much.</p>\n");
        table(html, &refusals, status);
    }
    html.raw("</section>\n");
}

fn table(html: &mut Html, groups: &[&FailureGroup], status: &Status) {
    html.raw(
        "<table class=\"stack\">\n<thead><tr><th class=\"number\">calls</th><th>last one</th>",
    );
    html.raw("<th>tenant</th><th>method</th><th>reason</th><th>what happened</th></tr></thead>\n");
    html.raw("<tbody>\n");
    for group in groups.iter().take(ROWS_MAX) {
        row(html, group, status);
    }
    html.raw("</tbody>\n</table>\n");
    if let Some(more) = groups.len().checked_sub(ROWS_MAX).filter(|more| *more > 0) {
        html.raw("<p class=\"empty\">").text(more).raw(" more are in /status.json.</p>\n");
    }
}

fn row(html: &mut Html, group: &FailureGroup, status: &Status) {
    let failure = &group.last;
    html.raw("<tr>");
    cell(html, "calls", "number").raw("×").text(group.count).raw("</td>");
    cell(html, "last one", "short").text(age(status.time, failure.time)).raw(" ago</td>");
    cell(html, "tenant", "");
    if failure.tenant.is_empty() {
        // It may not have been read yet when the call was ended.
        html.raw("not known");
    } else {
        links::tenant(html, &failure.tenant);
    }
    html.raw("</td>");
    cell(html, "method", "short").text(failure.method).raw("</td>");
    cell(html, "reason", "short small").text(&failure.reason);
    if let Some(retcode) = &failure.retcode {
        html.raw("<br>").text(retcode);
    }
    html.raw("</td>");
    what_happened(html, failure);
    html.raw("</tr>\n");
}

fn what_happened(html: &mut Html, failure: &Failure) {
    cell(html, "happened", "").text(&failure.error);
    if let Some(said) = &failure.gateway_message {
        html.raw(". <span class=\"quiet\">The gateway says: ").text(said).raw("</span>");
    }
    // Some errors say so themselves.
    if failure.outcome == Outcome::Unknown && !failure.error.contains("may have changed") {
        html.raw(". <span class=\"warn\">The agent may have changed.</span>");
    }
    html.raw("</td>");
}
