//! Which tenants are ill, and why: a sentence, and a row for each tenant.

use super::{
    cell,
    format::{cut, millis, rate, succeeded},
    links, pill,
    sparkline::sparkline,
};
use crate::{
    call::Share,
    server::{
        admin::html::Html,
        status::{CertificateStatus, GatewayCounts, Status, TenantStatus, Verdict, worst_first},
    },
    session::StoreState,
    tenant::Resource,
};

/// The most rows.
const ROWS_MAX: usize = 200;
/// The most tenants that the sentence names.
const NAMED_MAX: usize = 6;
/// The longest explanation in a row, in characters.
const WHY_MAX: usize = 160;

const COLUMNS: &str = "<thead><tr><th>tenant</th><th>how it is</th>\
    <th class=\"number\">succeeded</th><th class=\"number\">calls/s</th>\
    <th class=\"number\">gateway p50</th><th class=\"number\">p99</th>\
    <th class=\"number\">refused</th><th class=\"number\">failed</th>\
    <th class=\"number\">sign-ins waiting</th><th class=\"number\">sessions</th>\
    <th>last ten minutes</th></tr></thead>\n";

const LEGEND: &str = "<p class=\"empty\">The figures are of the last minute. Each bar is the calls of 20 seconds: \
    <span class=\"key failed\"></span> failed, through the fault of a gateway or of the bridge; \
    <span class=\"key refused\"></span> refused, for what was asked or the agent's state; \
    <span class=\"key ok\"></span> the others.</p>\n";

/// The title of the page, so that its tab shows whether tenants are ill.
pub(super) fn title(status: &Status) -> String {
    match status.tenants.iter().filter(|tenant| tenant.judgement.verdict.is_ill()).count() {
        0 => status.state.to_string(),
        ill => format!("{ill} ill"),
    }
}

/// The section at the top.
pub(super) fn section(html: &mut Html, status: &Status, is_of_one: bool) {
    let mut tenants: Vec<&TenantStatus> = status.tenants.iter().collect();
    worst_first(&mut tenants);
    html.raw("<section class=\"card\">\n");
    if !is_of_one {
        sentence(html, &tenants);
        gateways(html, status.gateways);
    }
    of_bridge(html, status);
    if tenants.is_empty() {
        html.raw("</section>\n");
        return;
    }
    html.raw("<table class=\"overview\">\n").raw(COLUMNS).raw("<tbody>\n");
    for tenant in tenants.iter().take(ROWS_MAX) {
        row(html, tenant, status.window_seconds);
    }
    html.raw("</tbody>\n</table>\n");
    if let Some(more) = tenants.len().checked_sub(ROWS_MAX).filter(|more| *more > 0) {
        html.raw("<p class=\"empty\">").text(more);
        html.raw(
            " more are no worse than these: /status.json has all, and /?tenant=ID shows one.</p>\n",
        );
    }
    html.raw(LEGEND).raw("</section>\n");
}

/// How many tenants are ill, and which.
fn sentence(html: &mut Html, tenants: &[&TenantStatus]) {
    let verdicts = tenants.iter().map(|tenant| tenant.judgement.verdict);
    let ill = verdicts.clone().filter(|verdict| verdict.is_ill()).count();
    let impaired = verdicts.filter(|verdict| *verdict == Verdict::Impaired).count();
    let (class, words) = match (ill, impaired) {
        _ if tenants.is_empty() => ("quiet", "There is no tenant".to_owned()),
        (0, 0) => ("good", format!("Nothing is wrong with any tenant ({})", tenants.len())),
        (0, _) => ("warn", format!("None ill, {impaired} of {} impaired", tenants.len())),
        (_, 0) => ("bad", format!("{ill} of {} ill", tenants.len())),
        _ => ("bad", format!("{ill} of {} ill, {impaired} impaired", tenants.len())),
    };
    html.raw("<h2 class=\"sentence ").raw(class).raw("\">").text(words);
    // Sorted, so these come first.
    let named = if ill > 0 { ill } else { impaired };
    for (index, tenant) in tenants.iter().take(named.min(NAMED_MAX)).enumerate() {
        html.raw(if index == 0 { ": " } else { ", " });
        links::tenant(html, &tenant.tenant);
        html.raw(" (").raw(tenant.judgement.verdict.words()).raw(")");
    }
    if let Some(more) = named.checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        html.raw(" and ").text(more).raw(" more");
    }
    html.raw("</h2>\n");
}

fn gateways(html: &mut Html, counts: GatewayCounts) {
    let GatewayCounts { answering, silent, not_asked } = counts;
    html.raw("<p class=\"gateways\">Gateways: ").text(answering).raw(" of ");
    html.text(answering + silent + not_asked).raw(" answer");
    if silent > 0 {
        html.raw(", <span class=\"bad\">").text(silent).raw(" without an answer</span>");
    }
    if not_asked > 0 {
        html.raw(", ").text(not_asked).raw(" not asked yet");
    }
    html.raw("</p>\n");
}

/// What is wrong with the bridge itself, whatever its tenants are like.
pub(super) fn wrong_with_bridge(status: &Status) -> Vec<&'static str> {
    let is_store_away =
        matches!(status.store.state, Some(StoreState::Down(_) | StoreState::Refusing(_)));
    let has_ended = |certificate: &CertificateStatus| certificate.not_after <= status.time;
    let wrong = [
        (is_store_away, "the store of sessions does not do as it is asked"),
        (status.reloads.error.is_some(), "the last change of the configuration is refused"),
        (status.certificates.iter().any(has_ended), "a certificate has ended"),
    ];
    wrong.into_iter().filter(|(is_so, _)| *is_so).map(|(_, words)| words).collect()
}

fn of_bridge(html: &mut Html, status: &Status) {
    let wrong = wrong_with_bridge(status);
    if !wrong.is_empty() {
        html.raw("<p class=\"bad\">Wrong with the bridge itself: ").text(wrong.join("; "));
        html.raw(". The end of this page has more.</p>\n");
    }
}

fn row(html: &mut Html, tenant: &TenantStatus, window: f64) {
    let counts = tenant.last_minute;
    html.raw("<tr>");
    cell(html, "tenant", "name");
    links::tenant(html, &tenant.tenant);
    html.raw("</td>");
    how_it_is(html, tenant);
    let loud = |count: u64, class: &'static str| if count > 0 { class } else { "number" };
    let (refused, failed) = (counts.refused(), counts.failed());
    let (bad, warn) = ("number bad", "number warn");
    let came_to_nothing = if failed > 0 { bad } else { loud(refused, warn) };
    let waiting = tenant.sign_ins.waiting;
    for (of, class, value) in [
        ("succeeded", came_to_nothing, succeeded(counts)),
        ("calls/s", "number", rate(counts.calls, window)),
        ("p50", "number", millis(tenant.gateway_times.p50_seconds)),
        ("p99", "number", millis(tenant.gateway_times.p99_seconds)),
        ("refused", loud(refused, warn), refused.to_string()),
        ("failed", loud(failed, bad), failed.to_string()),
        ("sign-ins waiting", if waiting > 0 { warn } else { "number" }, waiting.to_string()),
        ("sessions", "number", sessions(tenant).to_string()),
    ] {
        cell(html, of, class).text(value).raw("</td>");
    }
    cell(html, "last ten minutes", "bars");
    sparkline(html, &tenant.last_ten_minutes);
    html.raw("</td></tr>\n");
}

fn how_it_is(html: &mut Html, tenant: &TenantStatus) {
    let judgement = &tenant.judgement;
    cell(html, "how it is", "why");
    pill(html, class_of(judgement.verdict), judgement.verdict.words());
    if let [worst, others @ ..] = &judgement.findings[..] {
        html.raw(" ").text(cut(&worst.what, WHY_MAX));
        if !others.is_empty() {
            html.raw(" <span class=\"quiet\">(and ").text(others.len()).raw(" more)</span>");
        }
    }
    html.raw("</td>");
}

/// The class of a verdict, for its colour.
pub(super) fn class_of(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Unreachable | Verdict::Failing | Verdict::Refusing => "bad",
        Verdict::Impaired => "warn",
        Verdict::Well => "good",
        Verdict::Idle => "quiet",
    }
}

fn sessions(tenant: &TenantStatus) -> usize {
    let is_it = |share: &Resource| matches!(share, Resource::Share(Share::TenantSessions));
    let sessions = tenant.shares.iter().find(|share| is_it(&share.share));
    sessions.map_or(0, |sessions| sessions.taken)
}
