use std::time::{Duration, SystemTime};

use super::{
    format::{age, span},
    pill,
    tenant::shares,
};
use crate::{
    server::{
        ReloadView,
        admin::html::Html,
        status::{CertificateStatus, HostStatus, ListenerStatus, Status, StoreStatus},
    },
    session::{Scope, StoreState},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The section on what all tenants share.
pub(super) fn section(html: &mut Html, status: &Status) {
    html.raw("<section class=\"card\">\n<h2>Bridge</h2>\n<div class=\"columns\">\n");
    html.raw("<div>\n<h3>Shares of all callers</h3>\n");
    shares(html, status.shares.iter().map(|share| (share.share.as_str(), share)));
    html.raw("<h3>Requests at once, by gateway host</h3>\n");
    shares(html, status.hosts.iter().map(|host| (host.host.as_str(), &host.share)));
    adapted(html, &status.hosts);
    html.raw("</div>\n<div>\n");
    listeners(html, &status.listeners);
    store(html, &status.store);
    certificates(html, &status.certificates, status.time);
    reloads(html, &status.reloads, status.time);
    log(html, status);
    html.raw("</div>\n</div>\n</section>\n");
}

/// The hosts whose limit is below its ceiling, or that have refused requests.
fn adapted(html: &mut Html, hosts: &[HostStatus]) {
    let is_of_note = |host: &&HostStatus| host.share.limit < host.ceiling || host.refused > 0;
    for host in hosts.iter().filter(is_of_note) {
        html.raw("<p class=\"empty\">").text(&host.host).raw(": ").text(host.share.limit);
        html.raw(" now, at most ").text(host.ceiling).raw("; ").text(host.waiting);
        html.raw(" wait; ").text(host.refused).raw(" got no place since the start</p>\n");
    }
}

fn listeners(html: &mut Html, listeners: &[ListenerStatus]) {
    html.raw("<h3>Listeners</h3>\n<table>\n<tbody>\n");
    for ListenerStatus { listener, address, tls } in listeners {
        html.raw("<tr><td>").text(listener).raw("</td><td class=\"number\">").text(address);
        html.raw(if *tls { " with TLS" } else { " without TLS" }).raw("</td></tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
}

fn reloads(html: &mut Html, reloads: &ReloadView, now: SystemTime) {
    let ReloadView { applied, applied_time, failed, failed_time, error, restart } = reloads;
    html.raw("<h3>Configuration</h3>\n<p class=\"empty\">changes since the start: ");
    html.text(applied).raw(" in force");
    last(html, *applied_time, now);
    html.raw(", ").text(failed).raw(" refused");
    last(html, *failed_time, now);
    html.raw("</p>\n");
    if error.is_none() && restart.is_empty() {
        html.raw("<p>In force as it was read last.</p>\n");
    }
    if let Some(error) = error {
        html.raw("<p class=\"bad\">The last one is refused: ").text(error).raw("</p>\n");
    }
    if !restart.is_empty() {
        html.raw("<p class=\"warn\">Takes a restart: ").text(restart.join(", ")).raw("</p>\n");
    }
}

fn last(html: &mut Html, time: Option<SystemTime>, now: SystemTime) {
    if let Some(time) = time {
        html.raw(" (the last one ").text(age(now, time)).raw(" ago)");
    }
}

fn store(html: &mut Html, store: &StoreStatus) {
    let title =
        if store.file_bytes.is_some() { "File of sessions" } else { "Store that replicas share" };
    html.raw("<h3>").text(title).raw("</h3>\n<p class=\"empty\">");
    let Some(state) = &store.state else {
        html.raw("none: sessions are kept here</p>\n");
        return;
    };
    let (class, words) = match state {
        StoreState::Unused => ("quiet", "not asked yet"),
        StoreState::Up => ("good", "up"),
        StoreState::Refusing(refusal) => match refusal.scope {
            Scope::Reads => ("bad", "refuses reads"),
            Scope::Writes => ("bad", "refuses writes"),
        },
        StoreState::Down(_) => ("bad", "down"),
    };
    pill(html, class, words);
    html.raw(" ").text(store.error.as_deref().unwrap_or_default());
    if let Some(bytes) = store.file_bytes {
        html.raw(" ").text(bytes.div_ceil(1024)).raw(" KiB; ");
        html.text(store.failures).raw(" attempts to write failed since the start</p>\n");
        return;
    }
    html.raw(" ").text(store.failures).raw(" requests failed since the start</p>\n");
}

fn certificates(html: &mut Html, certificates: &[CertificateStatus], now: SystemTime) {
    html.raw("<h3>Certificates</h3>\n");
    if certificates.is_empty() {
        html.raw("<p class=\"empty\">none in the configuration</p>\n");
        return;
    }
    html.raw("<table>\n<tbody>\n");
    for certificate in certificates {
        html.raw("<tr><td>").text(certificate.certificate);
        if let Some(name) = certificate.tenant.as_ref().or(certificate.listener.as_ref()) {
            html.raw(" of ").text(name);
        }
        html.raw("</td><td class=\"number ");
        match certificate.not_after.duration_since(now) {
            Err(_) => html.raw("bad\">ended"),
            Ok(left) if left < 14 * DAY => html.raw("bad\">ends in ").text(span(left)),
            Ok(left) if left < 30 * DAY => html.raw("warn\">ends in ").text(span(left)),
            Ok(left) => html.raw("\">ends in ").text(span(left)),
        };
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
}

fn log(html: &mut Html, status: &Status) {
    let Some(log) = &status.log else { return };
    html.raw("<h3>Log</h3>\n<table>\n<tbody>\n<tr><td>filter</td><td class=\"number\">");
    html.text(&log.filter).raw("</td></tr>\n");
    if log.filter != log.configured {
        html.raw("<tr><td>configured</td><td class=\"number\">").text(&log.configured);
        html.raw("</td></tr>\n");
    }
    if let Some(until) = &log.until {
        html.raw("<tr><td>until</td><td class=\"number\">").text(until).raw("</td></tr>\n");
    }
    html.raw("<tr><td>lines lost</td><td class=\"number ");
    html.raw(if status.log_lines_lost > 0 { "bad" } else { "" }).raw("\">");
    html.text(status.log_lines_lost).raw("</td></tr>\n</tbody>\n</table>\n");
}
