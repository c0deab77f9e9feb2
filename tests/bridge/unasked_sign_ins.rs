//! Who makes the bridge sign an agent in whom another client has: by force or not, with which password and
//! phone number. `docs/concepts/sessions.md` has the same table.

use std::{collections::BTreeSet, time::Duration};

use ccgateway_bridge::rpc::proto::{SignInRequest, sign_in_request::InitialState};
use ccgateway_sim::{Entry, Interface, Options};
use ccgateway_test_support::{AGENT, PASSWORD, Setup, Site, TestBridge, until};
use serde_json::{Value, json};

/// The page whose table has a line for each [`Row`].
const PAGE: &str = include_str!("../../docs/concepts/sessions.md");
/// The head of that table.
const HEAD: &str = "| the agent is to be signed in | password | phone number | by force |";

/// What was done before another client took the agent over.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    /// A call that signed the agent in with the file's password.
    Call,
    /// `SignIn` by force, with a phone number and a state of its own.
    SignIn,
    /// That, and then `RegisterSession`.
    Registered,
    /// `RegisterSession` alone.
    OnlyRegistered,
    /// That, and then `SignOut`.
    SignedOut,
}

/// Who then makes the bridge sign the agent in.
#[derive(Clone, Copy, PartialEq)]
enum Asks {
    /// Another call.
    Call,
    /// Nobody: the bridge notices that the agent's session is lost.
    Nobody,
    /// `SignIn` without a password, by force or not.
    SignIn(bool),
}

/// One line of the table, for one way to write the agent's section of the credentials file.
#[derive(Clone, Copy)]
struct Row {
    line: &'static str,
    before: Before,
    /// The agent's section of the credentials file; empty: it has none.
    file: &'static str,
    asks: Asks,
    /// Password and phone number that the gateway gets, and whether it is asked by force; `None`: it gets
    /// nothing.
    sent: Option<(&'static str, &'static str, bool)>,
}

const BY_CALL: &str =
    "by a call, or by itself after a loss; nobody has given a password to `SignIn`";
const HELD: &str =
    "by a call, or by itself after a loss; a caller has given a password to `SignIn`";
const REGISTERED: &str = "by a call after `RegisterSession`, whatever `SignIn` was given before";
const SIGNED_OUT: &str = "by a call after `SignOut`, whatever `SignIn` was given before";
const ASKED: &str = "by `SignIn`";
/// The password in the file. Callers give [`PASSWORD`].
const FILES: &str = "canary-of-the-file";
const WHOLE: &str = "password = \"canary-of-the-file\"\nphone_number = \"70001\"\n";
const FORCED: &str = "password = \"canary-of-the-file\"\nphone_number = \"70001\"\nforce = true\n";

const fn row(
    line: &'static str,
    before: Before,
    file: &'static str,
    asks: Asks,
    sent: Option<(&'static str, &'static str, bool)>,
) -> Row {
    Row { line, before, file, asks, sent }
}

const ROWS: [Row; 21] = [
    row(BY_CALL, Before::Nothing, "", Asks::Call, None),
    row(BY_CALL, Before::Nothing, WHOLE, Asks::Call, Some((FILES, "70001", false))),
    row(BY_CALL, Before::Nothing, FORCED, Asks::Call, Some((FILES, "70001", true))),
    row(BY_CALL, Before::Call, WHOLE, Asks::Nobody, Some((FILES, "70001", false))),
    row(BY_CALL, Before::Call, FORCED, Asks::Nobody, Some((FILES, "70001", true))),
    row(HELD, Before::SignIn, "", Asks::Nobody, Some((PASSWORD, "", false))),
    row(HELD, Before::SignIn, WHOLE, Asks::Nobody, Some((PASSWORD, "70001", false))),
    row(HELD, Before::SignIn, FORCED, Asks::Nobody, Some((PASSWORD, "70001", true))),
    row(HELD, Before::SignIn, "", Asks::Call, Some((PASSWORD, "", false))),
    row(HELD, Before::SignIn, WHOLE, Asks::Call, Some((PASSWORD, "70001", false))),
    row(HELD, Before::SignIn, FORCED, Asks::Call, Some((PASSWORD, "70001", true))),
    row(REGISTERED, Before::Registered, "", Asks::Call, None),
    row(REGISTERED, Before::Registered, WHOLE, Asks::Call, Some((FILES, "70001", false))),
    row(REGISTERED, Before::Registered, FORCED, Asks::Call, Some((FILES, "70001", true))),
    row(REGISTERED, Before::OnlyRegistered, "", Asks::Call, None),
    row(SIGNED_OUT, Before::SignedOut, "", Asks::Call, None),
    row(SIGNED_OUT, Before::SignedOut, WHOLE, Asks::Call, Some((FILES, "70001", false))),
    row(SIGNED_OUT, Before::SignedOut, FORCED, Asks::Call, Some((FILES, "70001", true))),
    row(ASKED, Before::Nothing, "", Asks::SignIn(true), None),
    row(ASKED, Before::Nothing, FORCED, Asks::SignIn(false), Some((FILES, "70001", false))),
    row(ASKED, Before::Nothing, WHOLE, Asks::SignIn(true), Some((FILES, "70001", true))),
];

async fn bridge(file: &str, asks: Asks) -> (Site, TestBridge) {
    let poll_wait = Duration::from_millis(20);
    let site = Site::new(Options { poll_wait, ..Options::default() }).await;
    let mut tenant = ["pause_min", "pause_max", "take_back_pause"]
        .map(|key| format!("keep.{key} = \"10ms\"\n"))
        .concat();
    if !file.is_empty() {
        site.write("mine.toml", format!("[agents.{AGENT}]\n{file}"));
        tenant.push_str("credentials_file = \"mine.toml\"\n");
    }
    let setup = Setup { tenant, keep: asks == Asks::Nobody, ..<_>::default() };
    let bridge = Box::pin(TestBridge::at(&site, &setup)).await;
    (site, bridge)
}

async fn sign_in(bridge: &TestBridge) {
    let request = SignInRequest {
        agent_id: AGENT.to_string(),
        password: Some(PASSWORD.into()),
        phone_number: Some("79999".into()),
        initial_state: InitialState::AfterCallWork.into(),
        force: true,
        ..<_>::default()
    };
    bridge.sessions.clone().sign_in(request).await.expect("signed in");
}

async fn prepare(bridge: &TestBridge, Row { before, sent, .. }: Row) {
    let gateway = &bridge.gateway;
    match before {
        Before::Nothing | Before::OnlyRegistered => {}
        Before::Call => {
            gateway.set_password(AGENT, FILES);
            bridge.set_busy(AGENT).await.expect("signed in");
        }
        Before::SignIn | Before::Registered | Before::SignedOut => sign_in(bridge).await,
    }
    match before {
        Before::Nothing | Before::Call | Before::SignIn => {}
        Before::Registered | Before::OnlyRegistered => {
            let guid = gateway.agent(AGENT).and_then(|agent| agent.guid);
            let guid = guid.unwrap_or_else(|| gateway.sign_in(AGENT));
            bridge.register(AGENT, &guid).await.expect("registered");
        }
        Before::SignedOut => bridge.sign_out(AGENT).await.expect("signed out"),
    }
    // The gateway takes the password that is expected, so that what follows depends on nothing else.
    gateway.set_password(AGENT, sent.map_or(PASSWORD, |(password, _, _)| password));
    gateway.clear_journal();
}

async fn ask(bridge: &TestBridge, asks: Asks, by_force: bool) {
    // Whether it works depends on the row; what the gateway was asked is what counts.
    match asks {
        Asks::Call => drop(bridge.set_busy(AGENT).await),
        Asks::Nobody => {
            let last = if by_force { Interface::ForceSignIn } else { Interface::SignIn };
            until("the bridge to notice", || !bridge.asked(last).is_empty()).await;
        }
        Asks::SignIn(force) => {
            let request = SignInRequest { agent_id: AGENT.to_string(), force, ..<_>::default() };
            drop(bridge.sessions.clone().sign_in(request).await);
        }
    }
}

fn body(entry: &Entry) -> Value {
    serde_json::from_slice(&entry.body).expect("JSON")
}

#[tokio::test]
async fn force_password_and_phone_number_are_as_the_table_has_them() {
    for (number, row) in ROWS.into_iter().enumerate() {
        let about = format!("row {number}: {}, with {:?}", row.line, row.file);
        let (_site, bridge) = bridge(row.file, row.asks).await;
        prepare(&bridge, row).await;
        let taken = bridge.gateway.take_over(AGENT);
        let owners = taken.unwrap_or_else(|| bridge.gateway.sign_in(AGENT));
        let by_force = row.sent.is_some_and(|(_, _, by_force)| by_force);
        ask(&bridge, row.asks, by_force).await;
        let (asked, forced) =
            (bridge.asked(Interface::SignIn), bridge.asked(Interface::ForceSignIn));
        let bodies: Vec<_> = asked.iter().chain(&forced).map(body).collect();
        let expected = row.sent.map(
            |(password, phone_number, _)| json!({ "password": password, "phonenum": phone_number }),
        );
        assert!(bodies.iter().all(|body| Some(body) == expected.as_ref()), "{about}: {bodies:?}");
        assert_eq!(!asked.is_empty(), expected.is_some(), "{about}");
        // By itself, the bridge tries again after a while.
        assert!(row.asks == Asks::Nobody || asked.len() < 2, "{about}: {bodies:?}");
        assert_eq!(forced.len(), usize::from(by_force), "{about}");
        let keeps =
            || bridge.gateway.agent(AGENT).and_then(|agent| agent.guid) == Some(owners.clone());
        if by_force {
            until("the other client's session to end", || !keeps()).await;
        } else {
            assert!(keeps(), "{about}: the other client keeps its session");
        }
    }
}

#[test]
fn the_page_has_the_rows_of_the_table_and_no_others() {
    let table = PAGE.split_once(HEAD).map(|(_, table)| table).expect("the table");
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let first = |line: &'static str| line.split('|').nth(1).map(str::trim);
    let page: BTreeSet<_> = lines.filter_map(first).collect();
    assert_eq!(page, ROWS.iter().map(|row| row.line).collect());
}
