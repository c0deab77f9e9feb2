//! The page as text: what it says, and that nothing breaks it.

use super::*;
use crate::{
    server::status::{
        TenantStatus, Verdict,
        tests::{agent as an_agent, all, group, tenant},
    },
    session::StoreState,
};

const HOSTILE: &str = "<script>alert('1')</script>\" onload=\"x&";
/// Elements that are opened and closed.
const ELEMENTS: [&str; 16] = [
    "a", "code", "dd", "div", "dl", "dt", "h2", "h3", "li", "p", "path", "section", "span", "svg",
    "td", "ul",
];

fn named(name: &str, verdict: Verdict) -> TenantStatus {
    let mut tenant = tenant();
    tenant.tenant = name.into();
    tenant.judgement.verdict = verdict;
    tenant
}

/// So many tenants that are well, among three that are not.
fn of_many(well: usize) -> Status {
    let mut status = all();
    status.tenants = (0..well).map(|n| named(&format!("t{n}"), Verdict::Well)).collect();
    for (at, name, verdict) in [
        (well / 3, "slow", Verdict::Impaired),
        (well / 2, "broken", Verdict::Failing),
        (well, "silent", Verdict::Unreachable),
    ] {
        status.tenants.insert(at, named(name, verdict));
    }
    status
}

/// Checks that each element is closed.
fn is_whole(page: &str) {
    for element in ELEMENTS {
        let opened = [" ", ">"].map(|end| page.matches(&format!("<{element}{end}")).count());
        let closed = page.matches(&format!("</{element}>")).count();
        assert_eq!(opened.iter().sum::<usize>(), closed, "{element}");
    }
}

#[test]
fn among_a_hundred_tenants_those_that_are_ill_are_named_with_the_cause_and_come_first() {
    let page = page(&of_many(97), false, None);
    is_whole(&page);
    let sentence = "2 of 100 ill, 1 impaired: <a href=\"/?tenant=silent\">silent</a> (gateway does not answer), \
                    <a href=\"/?tenant=broken\">broken</a> (calls fail)";
    assert!(page.contains(sentence), "{page}");
    assert!(page.contains("<title>ccgateway-bridge: 2 ill</title>"));
    let header = page.split("</header>").next().expect("a header");
    assert!(!header.contains("class=\"pill good\""), "nothing at the top is green");
    let (_, table) = page.split_once("<table class=\"overview\">").expect("a table");
    let (table, _) = table.split_once("</table>").expect("its end");
    let rows: Vec<_> = table.split("<tr>").skip(2).collect();
    assert_eq!(rows.len(), 100);
    for (row, name, words) in [
        (0, "silent", "gateway does not answer"),
        (1, "broken", "calls fail"),
        (2, "slow", "impaired"),
        (3, "t0", "well"),
    ] {
        assert!(rows[row].contains(&format!(">{name}</a>")), "{}", rows[row]);
        assert!(rows[row].contains(&format!(">{words}</span>")), "{}", rows[row]);
    }
    assert!(!page.contains("<h3>Shares</h3>"), "each tenant has a page of its own");
    assert!(page.len() < 200_000, "{} bytes", page.len());
}

#[test]
fn of_very_many_tenants_the_worst_are_shown_and_the_others_are_counted() {
    let page = page(&of_many(9_997), false, None);
    is_whole(&page);
    assert_eq!(page.matches("<td data-of=\"tenant\" class=\"name\">").count(), 200);
    assert!(page.contains("9800 more are no worse than these"), "{}", page.len());
    assert!(page.contains("<a href=\"/?tenant=silent\">silent</a> (gateway"));
    assert!(page.len() < 400_000, "{} bytes", page.len());
}

#[test]
fn the_top_says_how_many_are_ill_and_how_many_gateways_answer() {
    for (verdict, expected) in [
        (Verdict::Well, "Nothing is wrong with any tenant (1)"),
        (Verdict::Idle, "Nothing is wrong with any tenant (1)"),
        (Verdict::Impaired, "None ill, 1 of 1 impaired: "),
        (Verdict::Refusing, "1 of 1 ill: "),
    ] {
        let mut status = all();
        status.tenants = vec![named("acme", verdict)];
        let page = page(&status, false, None);
        assert!(page.contains(&format!("\">{expected}")), "{expected} in {page}");
    }
    let mut status = all();
    (status.gateways.answering, status.gateways.silent, status.gateways.not_asked) = (17, 1, 2);
    let shown = page(&status, false, None);
    let gateways = "Gateways: 17 of 20 answer, <span class=\"bad\">1 without an answer</span>, 2 not asked yet";
    assert!(shown.contains(gateways), "{shown}");
    status.tenants.clear();
    assert!(page(&status, false, None).contains("There is no tenant"));
}

#[test]
fn what_is_wrong_with_the_bridge_itself_is_said_at_the_top() {
    let top = |status: &Status| {
        let page = page(status, false, None);
        is_whole(&page);
        page.split("<table").next().expect("a top").to_owned()
    };
    let mut status = all();
    status.tenants = vec![named("acme", Verdict::Well)];
    let shown = top(&status);
    let told = "Wrong with the bridge itself: the last change of the configuration is refused; \
                a certificate has ended. The end";
    assert!(shown.contains(told) && !shown.contains("pill good"), "{shown}");
    (status.reloads.error, status.certificates) = (None, Vec::new());
    for (state, is_wrong) in [
        (StoreState::Up, false),
        (StoreState::Unused, false),
        (StoreState::Down("the disk is full".into()), true),
    ] {
        status.store.state = Some(state);
        let shown = top(&status);
        let told =
            "Wrong with the bridge itself: the store of sessions does not do as it is asked.";
        assert_eq!((shown.contains(told), shown.contains("pill good")), (is_wrong, !is_wrong));
    }
}

#[test]
fn failures_that_are_alike_are_one_row_and_refusals_have_a_table_of_their_own() {
    let mut status = all();
    let (mut failed, mut refused) = (group("acme"), group("acme"));
    (failed.count, refused.count, refused.refused) = (40, 7, true);
    refused.last.reason = "STATE_REFUSED".into();
    status.failure_groups = vec![refused, failed];
    let page = page(&status, false, None);
    is_whole(&page);
    let (failures, refusals) = page.split_once("<h2>Refused calls").expect("both");
    assert!(failures.contains("×40") && failures.contains("UNLISTED_RETCODE"), "{failures}");
    assert!(!failures.contains("STATE_REFUSED"), "{failures}");
    assert!(refusals.contains("×7") && refusals.contains("STATE_REFUSED"), "{refusals}");
}

#[test]
fn no_call_has_failed_only_if_none_was_counted_either() {
    let mut status = all();
    status.failure_groups = vec![group("")];
    assert!(page(&status, false, None).contains("class=\"\">not known</td>"));
    status.failure_groups.clear();
    assert!(page(&status, false, None).contains("No call has failed"));
    status.tenants[0].since_start.calls_failed = 3;
    let page = page(&status, false, None);
    is_whole(&page);
    assert!(page.contains("Calls that failed: 3. What they were told is not kept"), "{page}");
    assert!(!page.contains("No call has failed"), "{page}");
}

#[test]
fn it_is_told_whether_the_configuration_is_in_force() {
    let mut status = all();
    let shown = page(&status, false, None);
    for told in [
        "changes since the start: 1 in force (the last one 0 s ago), 1 refused (the last one 0 s ago)",
        "The last one is refused: no such file",
        "Takes a restart: log.filter",
    ] {
        assert!(shown.contains(told), "{told} in {shown}");
    }
    (status.reloads.error, status.reloads.restart) = (None, Vec::new());
    assert!(page(&status, false, None).contains("In force as it was read last."));
}

#[test]
fn a_page_that_is_to_be_refreshed_stays_the_same_page() {
    for (page, own) in [
        (page(&all(), false, None), "/?refresh=5"),
        (page(&all(), true, None), "/?tenant=acme&amp;refresh=5"),
        (agent(&an_agent(), None), "/agent?tenant=acme&amp;agent=1001&amp;refresh=5"),
    ] {
        is_whole(&page);
        assert!(page.contains(&format!("<a href=\"{own}\">refresh every 5 s</a>")), "{page}");
    }
}

#[test]
fn nothing_that_others_have_written_is_markup() {
    let hostile = || HOSTILE.to_owned();
    let mut status = all();
    let mut group = group("acme");
    (group.last.reason, group.last.error) = (hostile(), hostile());
    (group.last.retcode, group.last.gateway_message) = (Some(hostile()), Some(hostile()));
    status.failure_groups = vec![group];
    (status.warnings, status.reloads.error) = (vec![hostile()], Some(hostile()));
    status.reloads.restart = vec![hostile()];
    (status.events[0].event, status.events[0].cause) = (hostile(), Some(hostile()));
    let tenant = &mut status.tenants[0];
    tenant.judgement.findings[0].what = hostile();
    tenant.gateways[0].host = hostile();
    if let Some(failure) = &mut tenant.gateways[0].last_failure {
        failure.error = hostile();
    }
    let mut of_agent = an_agent();
    (of_agent.events[0].event, of_agent.events[0].cause) = (hostile(), Some(hostile()));
    let call = &mut of_agent.failed_calls[0];
    (call.reason, call.retcode) = (hostile(), Some(hostile()));
    for (page, times) in [(page(&status, true, None), 12), (agent(&of_agent, None), 4)] {
        is_whole(&page);
        assert!(!page.contains("<script") && !page.contains("\" onload"), "{page}");
        let escaped = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot; onload=&quot;x&amp;";
        assert!(page.matches(escaped).count() >= times, "{page}");
    }
}

#[test]
fn what_is_wrong_is_linked_to_the_book_if_it_is_known_where_that_is() {
    let mut status = all();
    status.tenants[0].judgement.findings[0].page = "running/runbook#ccgwdown";
    let without = page(&status, true, None);
    assert!(without.contains("what to do: docs/running/runbook#ccgwdown"), "{without}");
    assert!(!without.contains("href=\"http"), "{without}");
    let book = Book::of("https://docs.example/{page}.html?a&b");
    let with = page(&status, true, Some(&book));
    let link =
        "<a href=\"https://docs.example/running/runbook.html?a&amp;b#ccgwdown\">what to do</a>";
    assert!(with.contains(link), "{with}");
    is_whole(&with);
}

#[test]
fn the_page_of_an_agent_says_what_is_known_of_it() {
    let page = agent(&an_agent(), None);
    is_whole(&page);
    for shown in [
        "Agent 1001 of <a href=\"/?tenant=acme\">acme</a>",
        "<td>busy</td>",
        "<td>kept</td>",
        "from a sign-in of the bridge, stored 0 s ago, forgotten in 1 min unless it is renewed",
        "1 sign-ins found it with another client, and the bridge has given it up",
        "STATE_REFUSED<br>100-007",
        "session lost",
    ] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
}
