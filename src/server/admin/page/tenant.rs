use super::{
    cell,
    format::{age, failed, millis, rate, succeeded},
    links,
    overview::class_of,
    pill, sign_ins,
};
use crate::{
    config::Book,
    gateway::AddressState,
    server::{
        admin::html::Html,
        status::{GatewayStatus, SessionStatus, ShareStatus, Status, TenantStatus},
    },
    session::SessionState,
};

/// The section of one tenant.
pub(super) fn section(
    html: &mut Html,
    tenant: &TenantStatus,
    status: &Status,
    book: Option<&Book>,
) {
    html.raw("<section class=\"card\">\n<div class=\"title\"><h2>").text(&tenant.tenant);
    html.raw("</h2>");
    let verdict = tenant.judgement.verdict;
    pill(html, class_of(verdict), verdict.words());
    let (class, words) = health(&tenant.gateways);
    pill(html, class, words);
    html.raw("</div>\n");
    findings(html, tenant, book);
    figures(html, tenant, status.window_seconds);
    sign_ins::notes(html, tenant);
    gateways(html, &tenant.gateways, status);
    html.raw("<div class=\"columns\">\n<div>\n<h3>Shares</h3>\n");
    shares(html, tenant.shares.iter().map(|share| (share.share.as_str(), share)));
    html.raw("</div>\n<div>\n<h3>Sessions that the bridge keeps</h3>\n");
    sessions(html, &tenant.sessions);
    html.raw("</div>\n</div>\n</section>\n");
}

/// What is not as it should be, and which page of the book says what to do.
fn findings(html: &mut Html, tenant: &TenantStatus, book: Option<&Book>) {
    if tenant.judgement.findings.is_empty() {
        return;
    }
    html.raw("<ul>\n");
    for finding in &tenant.judgement.findings {
        html.raw("<li>").text(&finding.what);
        links::advice(html, book, finding.page);
        html.raw("</li>\n");
    }
    html.raw("</ul>\n");
}

/// The state of the address that is asked first.
fn health(gateways: &[GatewayStatus]) -> (&'static str, &'static str) {
    let Some(gateway) = gateways.iter().find(|gateway| gateway.in_use) else {
        return ("quiet", "no gateway");
    };
    match (gateway.last_answer, &gateway.last_failure) {
        (None, None) => ("quiet", "gateway not asked yet"),
        _ if gateway.failed_last => ("bad", "gateway failed last"),
        // That it answers does not mean that all is well.
        _ => ("quiet", "gateway answers"),
    }
}

fn figures(html: &mut Html, tenant: &TenantStatus, window: f64) {
    let counts = tenant.last_minute;
    let unanswered = counts.requests_unanswered;
    let loud = |count: u64| if count > 0 { "bad" } else { "" };
    let times = tenant.gateway_times;
    html.raw("<h3>In the last ").text(format_args!("{window:.0}"));
    html.raw(" s</h3>\n<dl>\n");
    for (name, value, class) in [
        ("calls/s", rate(counts.calls, window), ""),
        ("succeeded", succeeded(counts), ""),
        ("failed", failed(counts), loud(counts.failed())),
        ("refused", counts.refused().to_string(), if counts.refused() > 0 { "warn" } else { "" }),
        ("gateway p50", millis(times.p50_seconds), ""),
        ("gateway p99", millis(times.p99_seconds), ""),
        ("requests/s", rate(counts.requests, window), ""),
        ("unanswered", unanswered.to_string(), loud(unanswered)),
        ("polls/s", rate(counts.polls, window), ""),
        ("events/s", rate(counts.events, window), ""),
        ("sign-ins", counts.sign_ins.to_string(), ""),
        ("waiting", tenant.waiting.to_string(), ""),
    ] {
        html.raw("<div><dt>").raw(name).raw("</dt><dd class=\"").raw(class).raw("\">");
        html.text(value).raw("</dd></div>\n");
    }
    html.raw("</dl>\n");
}

fn gateways(html: &mut Html, gateways: &[GatewayStatus], status: &Status) {
    html.raw("<h3>Gateway</h3>\n<table class=\"stack\">\n<thead><tr><th>address</th>");
    html.raw("<th>last answer</th><th>last failure</th></tr></thead>\n<tbody>\n");
    for gateway in gateways {
        html.raw("<tr>");
        cell(html, "address", "").text(&gateway.host);
        if gateway.in_use && gateways.len() > 1 {
            html.raw(" <span class=\"quiet\">in use</span>");
        }
        if gateway.state != AddressState::Good {
            html.raw(" <span class=\"bad\">").text(gateway.state.as_str()).raw("</span>");
        }
        html.raw("</td>");
        cell(html, "last answer", "short");
        match gateway.last_answer {
            Some(time) => html.text(age(status.time, time)).raw(" ago"),
            None => html.raw("none yet"),
        };
        html.raw("</td>");
        cell(html, "last failure", "");
        match &gateway.last_failure {
            Some(failure) => {
                html.text(age(status.time, failure.time)).raw(" ago: ").text(&failure.error)
            }
            None => html.raw("none"),
        };
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
}

/// A table of how much of each share is taken.
pub(super) fn shares<'a>(
    html: &mut Html,
    shares: impl Iterator<Item = (&'a str, &'a ShareStatus)>,
) {
    html.raw("<table>\n<tbody>\n");
    for (name, ShareStatus { taken, limit, .. }) in shares {
        html.raw("<tr><td>").text(name.replace('_', " "));
        html.raw("</td><td class=\"number\"><meter min=\"0\" low=\"").text(limit * 3 / 4);
        html.raw("\" high=\"").text(limit * 9 / 10).raw("\" optimum=\"0\" max=\"").text(limit);
        html.raw("\" value=\"").text(taken).raw("\"></meter></td><td class=\"number\">");
        html.text(taken).raw(" <span class=\"quiet\">of ").text(limit).raw("</span></td></tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
}

fn sessions(html: &mut Html, sessions: &[SessionStatus]) {
    let entered = |session: &&SessionStatus| session.entered > 0;
    if !sessions.iter().any(|session| entered(&session)) {
        html.raw("<p class=\"empty\">none yet</p>\n");
        return;
    }
    html.raw("<table>\n<thead><tr><th>state</th><th class=\"number\">now</th>");
    html.raw("<th class=\"number\">entered</th></tr></thead>\n<tbody>\n");
    for session in sessions.iter().filter(entered) {
        let class = match session.state {
            SessionState::Kept => "good",
            SessionState::Doubtful | SessionState::Recovering | SessionState::Lost => "warn",
            SessionState::SigningIn
            | SessionState::Unkept
            | SessionState::SigningOut
            | SessionState::Gone
            | SessionState::Registered => "",
        };
        let class = if session.now > 0 { class } else { "" };
        html.raw("<tr><td>").text(session.state.as_str().replace('_', " "));
        html.raw("</td><td class=\"number ").raw(class).raw("\">").text(session.now);
        html.raw("</td><td class=\"number quiet\">").text(session.entered).raw("</td></tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
}
