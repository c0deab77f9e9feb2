use std::{fs, path::Path};

use super::{
    super::{
        Resource, SessionStatus, ShareStatus, TakenOverStatus,
        tenant_status::FailureStatus,
        tests::{NOW, group, tenant},
    },
    *,
};
use crate::call::Share;

/// A tenant of whom nothing bad can be said, with so many calls of which some failed or were refused.
fn of_calls(calls: u64, calls_failed: u64, calls_refused: u64) -> TenantStatus {
    let mut tenant = tenant();
    tenant.last_minute = Counts { calls, calls_failed, calls_refused, ..Counts::default() };
    for gateway in &mut tenant.gateways {
        (gateway.failed_last, gateway.is_failing) = (false, false);
        gateway.last_answer = Some(NOW);
    }
    tenant
}

fn judged(mut tenant: TenantStatus) -> TenantStatus {
    tenant.gateway = Reach::of(&tenant.gateways);
    tenant.judgement = Judgement::of(&tenant, &[]);
    tenant
}

fn silent(mut tenant: TenantStatus) -> TenantStatus {
    for gateway in &mut tenant.gateways {
        (gateway.failed_last, gateway.is_failing) = (true, true);
    }
    tenant
}

/// The same, and nobody has asked it in the last minute.
fn silent_long_ago(tenant: TenantStatus) -> TenantStatus {
    let mut tenant = silent(tenant);
    tenant.gateways.iter_mut().for_each(|gateway| gateway.is_failing = false);
    tenant
}

#[test]
fn what_part_of_the_calls_failed_or_was_refused_decides_and_nothing_is_hidden_as_well() {
    use Verdict::{Failing, Idle, Impaired, Refusing, Well};
    for ((calls, failed, refused), expected) in [
        ((0, 0, 0), Idle),
        ((10, 0, 0), Well),
        // One that fails is never well, however many there are.
        ((100_000, 1, 0), Impaired),
        ((100, 4, 0), Impaired),
        ((100, 5, 0), Failing),
        ((1, 1, 0), Failing),
        // Some refusals are ordinary.
        ((100, 0, 9), Well),
        ((100, 0, 10), Impaired),
        // A quiet tenant may have had no other call.
        ((4, 0, 4), Impaired),
        ((10, 0, 5), Refusing),
        ((41, 0, 40), Refusing),
        ((41, 3, 38), Failing),
    ] {
        let found = judged(of_calls(calls, failed, refused)).judgement;
        assert_eq!(found.verdict, expected, "{calls} {failed} {refused}: {found:?}");
        assert_eq!(found.findings.is_empty(), expected >= Well, "{found:?}");
    }
}

/// They say nothing of the tenant: a caller has asked too much, or has not waited.
#[test]
fn a_greedy_caller_makes_no_tenant_ill_and_one_who_left_does_not_count() {
    use Verdict::{Failing, Impaired, Refusing, Well};
    let of = |calls: u64, greedy: u64, refused: u64, failed: u64| {
        let mut tenant = of_calls(calls, greedy + failed, refused);
        tenant.last_minute.calls_over_own_share = greedy;
        judged(tenant).judgement
    };
    for ((calls, greedy, refused, failed), expected) in [
        ((100, 9, 0, 0), Well),
        // The others are served.
        ((100, 80, 0, 0), Impaired),
        ((100, 100, 0, 0), Impaired),
        ((100, 80, 9, 0), Impaired),
        ((100, 96, 4, 0), Impaired),
        // Half of the others are not.
        ((100, 80, 10, 0), Refusing),
        ((100, 80, 0, 5), Failing),
    ] {
        let found = of(calls, greedy, refused, failed);
        assert_eq!(found.verdict, expected, "{calls} {greedy} {refused} {failed}: {found:?}");
    }
    let found = of(100, 80, 10, 0);
    let found = &found.findings[0];
    let what = "90 of 100 calls were refused in the last minute, 80 of them since their caller asked too much";
    assert_eq!((&*found.what, found.page), (what, ASKED_TOO_MUCH));
    let mut tenant = of_calls(100, 1, 0);
    tenant.last_minute.calls_cancelled = 90;
    assert_eq!(
        judged(tenant).judgement.findings[0].what,
        "1 of 10 calls failed in the last minute"
    );
}

#[test]
fn a_gateway_that_does_not_answer_is_the_worst_whatever_else_there_is() {
    let found = judged(silent(of_calls(10, 10, 0))).judgement;
    assert_eq!(found.verdict, Verdict::Unreachable);
    let told: Vec<_> = found.findings.iter().map(|finding| &*finding.what).collect();
    let expected = ["no answer from gateway: refused", "10 of 10 calls failed in the last minute"];
    assert_eq!(told, expected);

    let mut tenant = of_calls(10, 0, 0);
    tenant.gateways.extend(silent(of_calls(0, 0, 0)).gateways);
    let judged_one = judged(tenant);
    assert_eq!(judged_one.gateway, Reach::Answers, "the other address does");
    let what = &judged_one.judgement.findings[0].what;
    assert_eq!(what, "an address does not answer, but gateway does (gateway: refused)");

    let mut tenant = of_calls(0, 0, 0);
    for gateway in &mut tenant.gateways {
        (gateway.last_answer, gateway.last_failure) = (None, None);
    }
    let judged_one = judged(tenant);
    assert_eq!(
        (judged_one.gateway, judged_one.judgement.verdict),
        (Reach::NotAsked, Verdict::Idle)
    );
}

/// One answer may have been lost at night, after the last call of the day.
#[test]
fn a_gateway_that_failed_long_ago_and_was_not_asked_since_makes_nobody_ill() {
    let alone = judged(silent_long_ago(of_calls(0, 0, 0)));
    assert_eq!((alone.gateway, alone.judgement.verdict), (Reach::Silent, Verdict::Impaired));
    let what = &alone.judgement.findings[0].what;
    let expected = "no answer from gateway: refused (more than a minute ago, and not asked since)";
    assert_eq!(what, expected);

    let mut beside_another = of_calls(10, 0, 0);
    beside_another.gateways.extend(silent_long_ago(of_calls(0, 0, 0)).gateways);
    assert_eq!(judged(beside_another).judgement.verdict, Verdict::Well);

    let mut probed = silent_long_ago(of_calls(0, 0, 0));
    probed.gateways[0].state = AddressState::Tripped;
    assert_eq!(judged(probed).judgement.verdict, Verdict::Unreachable);
}

#[test]
fn whatever_waits_is_lost_or_is_used_up_impairs_a_tenant() {
    type Change = fn(&mut TenantStatus);
    let cases: [(&str, Change); 6] = [
        ("3 agents wait to be signed in, the first for 31 s", |tenant| {
            (tenant.sign_ins.waiting, tenant.sign_ins.oldest_seconds) = (3, 31.5);
        }),
        ("sessions of agents: 2 being made anew", |tenant| {
            let state = SessionState::Recovering;
            tenant.sessions.push(SessionStatus { state, now: 2, entered: 5 });
        }),
        ("agents given up to another client: 1", |tenant| {
            let agent = "1002".into();
            tenant.taken_over.push(TakenOverStatus { agent, attempts: 6, given_up: true });
        }),
        ("2 agents are not polled any more", |tenant| tenant.polls_stopped = 2),
        ("all places are taken: requests (7)", |tenant| {
            let share = Resource::Share(Share::TenantRequests);
            tenant.shares.push(ShareStatus { share, taken: 7, limit: 7 });
        }),
        ("no answer from gateway: HTTP 502", |tenant| {
            let error = "HTTP 502".into();
            tenant.gateways[0].last_failure = Some(FailureStatus { time: NOW, error });
            tenant.gateways[0].state = AddressState::Tripped;
        }),
    ];
    for (expected, change) in cases {
        let mut tenant = of_calls(10, 0, 0);
        change(&mut tenant);
        let found = judged(tenant).judgement;
        assert!(found.verdict <= Verdict::Impaired, "{expected}: {found:?}");
        let told: Vec<_> = found.findings.iter().map(|finding| &*finding.what).collect();
        assert!(told.len() == 1 && told[0].contains(expected), "{expected}: {told:?}");
    }
}

#[test]
fn the_worst_tenant_comes_first() {
    let named = |name: &str, mut tenant: TenantStatus| {
        tenant.tenant = name.into();
        judged(tenant)
    };
    let tenants = [
        named("idle", of_calls(0, 0, 0)),
        named("well-b", of_calls(10, 0, 0)),
        named("well-a", of_calls(10, 0, 0)),
        named("one-refused", of_calls(100, 0, 1)),
        named("impaired", of_calls(100, 1, 0)),
        named("refusing", of_calls(10, 0, 10)),
        named("failing-half", of_calls(1_000, 500, 0)),
        named("failing-all", of_calls(2, 2, 0)),
        named("failing-half-of-few", of_calls(10, 5, 0)),
        named("unreachable", silent(of_calls(0, 0, 0))),
    ];
    let mut sorted: Vec<_> = tenants.iter().collect();
    worst_first(&mut sorted);
    let order: Vec<_> = sorted.iter().map(|tenant| &*tenant.tenant).collect();
    assert_eq!(
        order,
        [
            "unreachable",
            "failing-all",
            "failing-half",
            "failing-half-of-few",
            "refusing",
            "impaired",
            "one-refused",
            "well-a",
            "well-b",
            "idle",
        ]
    );
}

#[test]
fn a_finding_says_what_the_last_call_was_told() {
    let (failed, mut refused) = (group("acme"), group("acme"));
    (refused.refused, refused.last.retcode) = (true, Some("100-006".into()));
    let tenant = of_calls(10, 2, 5);
    let found = Judgement::of(&tenant, &[&refused, &failed]).findings;
    let told: Vec<_> = found.iter().map(|finding| &*finding.what).collect();
    assert_eq!(
        told,
        [
            "2 of 10 calls failed in the last minute; the last one: SetBusy UNLISTED_RETCODE 999-001 \"no\"",
            "5 of 10 calls were refused in the last minute; the last one: SetBusy UNLISTED_RETCODE 100-006 \"no\"",
        ]
    );
}

#[test]
fn the_book_has_the_pages_that_findings_name() {
    let pages = [
        UNREACHABLE,
        CALLS_FAILING,
        REFUSALS,
        ASKED_TOO_MUCH,
        SIGN_INS_QUEUED,
        SESSIONS_FAILING,
        GIVEN_UP,
        STORE_AWAY,
        USED_UP,
    ];
    for page in pages.into_iter().chain(["running/monitoring#the-page"]) {
        let (path, section) = page.split_once('#').unwrap_or((page, ""));
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(path);
        let text = fs::read_to_string(file.with_extension("md")).expect("a page");
        let headings = text.lines().filter_map(|line| line.strip_prefix("## "));
        let mut anchors = headings.map(|heading| heading.to_lowercase().replace(' ', "-"));
        assert!(section.is_empty() || anchors.any(|one| one == section), "{page}");
    }
}
