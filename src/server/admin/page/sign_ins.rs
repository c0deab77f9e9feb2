//! Agents whom the bridge signs in by itself, and agents whom other clients take.

use std::time::Duration;

use super::format::span;
use crate::server::{
    admin::html::Html,
    status::{SignInStatus, TakenOverStatus, TenantStatus},
};

/// The most agents that are listed.
const NAMED_MAX: usize = 20;

/// Adds nothing if no agent waits and none was taken.
pub(super) fn notes(html: &mut Html, tenant: &TenantStatus) {
    if tenant.sign_ins.waiting > 0 {
        html.raw("<p class=\"warn\">");
        queue(html, &tenant.sign_ins);
        html.raw("</p>\n");
    }
    let is_given_up = |one: &&TakenOverStatus| one.given_up;
    agents(
        html,
        "given up to another client, until a caller asks for them",
        tenant.taken_over.iter().filter(is_given_up),
    );
    agents(
        html,
        "found with another client lately",
        tenant.taken_over.iter().filter(|one| !is_given_up(one)),
    );
}

fn queue(html: &mut Html, sign_ins: &SignInStatus) {
    html.text(sign_ins.waiting).raw(" agents wait to be signed in, the first for ");
    html.text(span(Duration::from_secs_f64(sign_ins.oldest_seconds))).raw("; at ");
    html.text(format_args!("{:.1}", sign_ins.per_second));
    html.raw(" a second all are signed in within about ");
    html.text(span(Duration::from_secs_f64(sign_ins.empty_in_seconds)));
}

fn agents<'a>(
    html: &mut Html,
    what: &'static str,
    agents: impl Iterator<Item = &'a TakenOverStatus>,
) {
    let named: Vec<&str> = agents.map(|one| &*one.agent).collect();
    if named.is_empty() {
        return;
    }
    html.raw("<p class=\"warn\">").raw(what).raw(": ");
    html.text(named.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", "));
    if let Some(more) = named.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        html.raw(" and ").text(more).raw(" more");
    }
    html.raw("</p>\n");
}
