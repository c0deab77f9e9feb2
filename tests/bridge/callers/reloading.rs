//! What changes while the bridge runs.

use std::{fs, time::Duration};

use ccgateway_bridge::{
    access::Right, config::Config, rpc::proto::WatchEventsRequest, server::Reloaded,
};
use ccgateway_test_support::{Certificate, Setup, Site, TestBridge, until_asked};
use prost::Message as _;
use tempfile::TempDir;

use super::{
    NOT_FOUND, PERMISSION_DENIED, REFLECTION, UNAUTHENTICATED,
    authority::{Authority, tls},
    list_services,
    peer::Peer,
    requests,
};

const IVR: &str = "spiffe://prod/ivr";
const CRM: &str = "spiffe://prod/crm";

/// A bridge whose configuration can be changed.
struct Place {
    site: Site,
    bridge: TestBridge,
    files: TempDir,
    own: Certificate,
    authority: Authority,
}

fn settings(files: &TempDir, authorities: &str, rules: &[(&str, &str)]) -> String {
    let file = |name: &str| files.path().join(name).display().to_string();
    let mut text = format!(
        "listeners.default.tls = {{ certificate_file = {:?}, key_file = {:?}, client_ca_file = {authorities:?} }}\n",
        file("tls.pem"),
        file("tls.key"),
    );
    let rule = |(at, (principal, rights)): (usize, &(&str, &str))| {
        format!(
            "callers.c{at} = {{ principals = [{principal:?}], tenants = [\"acme\"], rights = {rights} }}\n"
        )
    };
    text.extend(rules.iter().enumerate().map(rule));
    text
}

impl Place {
    async fn open(rules: &[(&str, &str)]) -> Self {
        let files = TempDir::new().expect("a folder");
        let own = Certificate::of("localhost", files.path());
        let authority = Authority::new("first", files.path());
        let site = Site::new(<_>::default()).await;
        let setup = Setup { settings: settings(&files, &authority.pem, rules), ..<_>::default() };
        let bridge = TestBridge::at(&site, &setup).await;
        Self { site, bridge, files, own, authority }
    }

    fn config(&self, authorities: &str, rules: &[(&str, &str)]) -> Config {
        let settings = settings(&self.files, authorities, rules);
        self.site.config(&Setup { settings, ..<_>::default() })
    }

    /// Puts these rules into force; what had changed is returned.
    fn reload(&self, authorities: &str, rules: &[(&str, &str)]) -> Vec<String> {
        let reloaded = self.bridge.bridge.reload(self.config(authorities, rules));
        let Reloaded { taken: in_force, needs_restart } = reloaded.expect("a good configuration");
        assert_eq!(needs_restart, [""; 0]);
        in_force
    }

    async fn peer(&self, authority: &Authority, uri: &str) -> Result<Peer, String> {
        let shown = Some(authority.issue(uri, true));
        Peer::connect(self.bridge.bridge.grpc_addr(), Some(tls(&self.own, shown))).await
    }
}

async fn may(peer: &mut Peer, right: Right) -> bool {
    let (path, _, message) =
        requests("acme").into_iter().find(|(_, needed, _)| *needed == right).expect("there");
    let told = peer.call(&path, &message, &[]).await.expect("an answer");
    ![UNAUTHENTICATED, PERMISSION_DENIED].contains(&told.code())
}

#[tokio::test]
async fn rules_change_for_open_connections_and_streams() {
    let rules = [(IVR, "[\"read\", \"watch\"]"), (CRM, "[\"watch\"]")];
    let place = Place::open(&rules).await;
    let mut ivr = place.peer(&place.authority, IVR).await.expect("connected");
    let mut crm = place.peer(&place.authority, CRM).await.expect("connected");
    assert!(may(&mut ivr, Right::Read).await && !may(&mut ivr, Right::Write).await);
    assert_eq!(place.reload(&place.authority.pem, &rules), Vec::<String>::new(), "nothing changed");

    let watch = WatchEventsRequest { tenant_id: "acme".into(), ..<_>::default() }.encode_to_vec();
    let path = "/ccgateway.agent.v1.AgentEvents/WatchEvents";
    let mut watcher = place.peer(&place.authority, IVR).await.expect("connected");
    let watching = tokio::spawn(async move {
        let message = watch;
        watcher.watch(path, &message, &[]).await
    });
    ccgateway_test_support::within("the stream to be open", async {
        let open = "ccgw_tenant_places_in_use{tenant=\"acme\",share=\"watches\"}";
        while place.bridge.scrape().await.get(open) != Some(&1.0) {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let changed = place.reload(&place.authority.pem, &[(IVR, "[\"write\"]"), (CRM, "[\"watch\"]")]);
    assert_eq!(changed, ["callers.c0.rights"]);
    let told = watching.await.expect("no panic").expect("an answer");
    assert_eq!(told.code(), PERMISSION_DENIED, "{told:?}");
    assert!(!may(&mut ivr, Right::Read).await && may(&mut ivr, Right::Write).await);
    assert!(may(&mut crm, Right::Watch).await && !may(&mut crm, Right::Read).await);
}

#[tokio::test]
async fn an_authority_that_is_withdrawn_counts_no_more_and_a_new_one_does() {
    let rules = [(IVR, "[\"*\"]")];
    let place = Place::open(&rules).await;
    let second = Authority::new("second", place.files.path());
    let both = place.files.path().join("both.pem");
    let [one, two] =
        [&place.authority.pem, &second.pem].map(|pem| fs::read_to_string(pem).expect("there"));
    fs::write(&both, one + &two).expect("written");
    let both = both.display().to_string();

    let mut old = place.peer(&place.authority, IVR).await.expect("connected");
    assert!(may(&mut old, Right::Read).await);
    place.reload(&both, &rules);
    let mut new = place.peer(&second, IVR).await.expect("connected");
    assert!(may(&mut old, Right::Read).await && may(&mut new, Right::Read).await);
    place.reload(&second.pem, &rules);
    assert!(!may(&mut old, Right::Read).await, "its authority was withdrawn");
    assert!(may(&mut new, Right::Read).await);
    let late = match place.peer(&place.authority, IVR).await {
        Ok(mut peer) => peer.call(super::HEALTH, &[], &[]).await.map(drop),
        Err(error) => Err(error),
    };
    assert!(late.is_err());
}

/// It keeps its address until a restart, and with it the handshake that it has.
#[tokio::test]
async fn an_authority_is_withdrawn_also_where_a_listener_waits_for_a_restart() {
    let rules = [(IVR, "[\"*\"]")];
    let place = Place::open(&rules).await;
    let second = Authority::new("second", place.files.path());
    let moved = |authorities: &str| {
        let settings = settings(&place.files, authorities, &rules);
        let listen = Some(([127, 0, 0, 1], 1).into());
        let setup = Setup { settings, listen, ..<_>::default() };
        let reloaded = place.bridge.bridge.reload(place.site.config(&setup));
        let Reloaded { taken, needs_restart } = reloaded.expect("a good configuration");
        assert_eq!(taken, [""; 0]);
        needs_restart.iter().any(|key| key.starts_with("listeners.default.tls.client_ca_file"))
    };
    let mut before = place.peer(&place.authority, IVR).await.expect("connected");
    assert!(!moved(&place.authority.pem));
    assert!(may(&mut before, Right::Read).await, "it has only moved");
    assert!(moved(&second.pem));
    assert!(!may(&mut before, Right::Read).await);
    let mut after = place.peer(&place.authority, IVR).await.expect("its handshake is as before");
    assert!(!may(&mut after, Right::Read).await);
    assert!(!moved(&place.authority.pem), "it is put back");
    assert!(may(&mut before, Right::Read).await && may(&mut after, Right::Read).await);
}

#[tokio::test]
async fn another_certificate_is_shown_to_new_connections() {
    let rules = [(IVR, "[\"*\"]")];
    let place = Place::open(&rules).await;
    let mut before = place.peer(&place.authority, IVR).await.expect("connected");
    let newer = Certificate::of("localhost", place.files.path());
    let changed = place.reload(&place.authority.pem, &rules);
    assert_eq!(changed.len(), 2, "{changed:?}");
    assert!(changed.iter().any(|key| key.starts_with("listeners.default.tls.certificate_file (")));
    assert!(place.peer(&place.authority, IVR).await.is_err(), "the old one is not shown any more");
    let shown = Some(place.authority.issue(IVR, true));
    let addr = place.bridge.bridge.grpc_addr();
    let mut after = Peer::connect(addr, Some(tls(&newer, shown))).await.expect("connected");
    assert!(may(&mut before, Right::Read).await && may(&mut after, Right::Read).await);
}

#[tokio::test]
async fn what_takes_a_restart_is_told_and_nothing_else_changes() {
    let rules = [(IVR, "[\"read\"]")];
    let place = Place::open(&rules).await;
    let settings = settings(&place.files, &place.authority.pem, &[(IVR, "[\"write\"]")]);
    let server = "limits.calls = 77\n".to_owned();
    let config = place.site.config(&Setup { settings, server, ..<_>::default() });
    let reloaded = place.bridge.bridge.reload(config).expect("a good configuration");
    assert_eq!(reloaded.taken, ["callers.c0.rights"]);
    assert_eq!(reloaded.needs_restart, ["server.limits.calls"]);
    let (_, ready) = place.bridge.ask("GET /readyz?verbose").await;
    assert!(ready.contains("configuration: takes a restart: server.limits.calls"), "{ready}");
    let metrics = place.bridge.scrape().await;
    let counted =
        ["ccgw_reloads_total", "ccgw_reload_failures_total"].map(|name| metrics.get(name));
    assert_eq!(counted, [Some(&1.0), Some(&0.0)]);

    place.bridge.bridge.refuse_reload("callers.c0: a mistake");
    let (_, ready) = place.bridge.ask("GET /readyz?verbose").await;
    assert!(ready.contains("what was before stays: callers.c0: a mistake"), "{ready}");
    let failures = place.bridge.scrape().await.get("ccgw_reload_failures_total").copied();
    assert_eq!(failures, Some(1.0));
    place.reload(&place.authority.pem, &[(IVR, "[\"read\"]")]);
    let (_, ready) = place.bridge.ask("GET /readyz?verbose").await;
    assert!(!ready.contains("configuration:"), "{ready}");
}

/// The default address depends on whether callers are identified, and a running listener keeps its own.
#[tokio::test]
async fn a_listener_that_others_reach_never_becomes_open_by_a_reload() {
    let rules = [(IVR, "[\"read\"]")];
    let place = Place::open(&rules).await;
    let mut ivr = place.peer(&place.authority, IVR).await.expect("connected");
    assert!(may(&mut ivr, Right::Read).await);
    let file = |name: &str| place.files.path().join(name).display().to_string();
    let without_ca = format!(
        "listeners.default.tls = {{ certificate_file = {:?}, key_file = {:?} }}\n",
        file("tls.pem"),
        file("tls.key"),
    );
    for settings in [String::new(), without_ca] {
        // At this address, everybody may do everything, since there are no rules.
        let listen = Some(([127, 0, 0, 1], 1).into());
        let setup = Setup { settings, listen, ..<_>::default() };
        let Reloaded { taken: in_force, needs_restart } =
            place.bridge.bridge.reload(place.site.config(&setup)).expect("a good configuration");
        assert!(needs_restart.contains(&"listeners.default".to_owned()), "{needs_restart:?}");
        assert!(in_force.iter().all(|key| key.starts_with("callers.")), "{in_force:?}");
        assert!(!may(&mut ivr, Right::Read).await, "its rule is gone");
        let mut anonymous = Peer::connect(place.bridge.bridge.grpc_addr(), None).await;
        if let Ok(anonymous) = &mut anonymous {
            assert!(anonymous.call(super::HEALTH, &[], &[]).await.is_err(), "TLS is wanted");
        }
        let nobody =
            Peer::connect(place.bridge.bridge.grpc_addr(), Some(tls(&place.own, None))).await;
        if let Ok(mut nobody) = nobody {
            assert!(nobody.call(super::HEALTH, &[], &[]).await.is_err(), "a certificate is wanted");
        }
    }
}

#[tokio::test]
async fn reflection_is_hidden_and_shown_on_open_connections_too() {
    const SERVED: &str = "0";
    const UNIMPLEMENTED: &str = "12";
    const OWN: &str = "listeners.default.reflection";
    const OF_ALL: &str = "server.reflection";
    let site = Site::new(<_>::default()).await;
    let bridge = TestBridge::at(&site, &Setup::default()).await;
    let mut peer = Peer::connect(bridge.bridge.grpc_addr(), None).await.expect("connected");
    for (own, of_all, taken, expected) in [
        ("", "", &[][..], SERVED),
        ("false", "", &[OWN], UNIMPLEMENTED),
        ("false", "false", &[OF_ALL], UNIMPLEMENTED),
        ("", "false", &[OWN], UNIMPLEMENTED),
        ("true", "false", &[OWN], SERVED),
        ("", "", &[OWN, OF_ALL], SERVED),
    ] {
        let given = |key: &str, value: &str| match value {
            "" => String::new(),
            value => format!("{key} = {value}\n"),
        };
        let (settings, server) = (given(OWN, own), given("reflection", of_all));
        let reloaded = bridge.reload(&Setup { settings, server, ..<_>::default() });
        assert_eq!(reloaded.taken, taken);
        assert_eq!(reloaded.needs_restart, [""; 0]);
        let told = peer.call(REFLECTION, &list_services(), &[]).await.expect("an answer");
        assert_eq!(told.code(), expected, "{own:?} {of_all:?}: {told:?}");
    }
    // It waits for a restart, and shows no more than both of its configurations do.
    for (reflection, expected) in [("true", SERVED), ("false", UNIMPLEMENTED), ("true", SERVED)] {
        let settings = format!("{OWN} = {reflection}\n");
        let listen = Some(([127, 0, 0, 1], 1).into());
        let reloaded = bridge.reload(&Setup { settings, listen, ..<_>::default() });
        assert_eq!(reloaded.taken, [""; 0]);
        let told = peer.call(REFLECTION, &list_services(), &[]).await.expect("an answer");
        assert_eq!(told.code(), expected, "{reflection}: {told:?}");
    }
}

/// It is served until a restart, and says nothing of reflection itself.
#[tokio::test]
async fn reflection_of_a_listener_whose_section_goes_is_hidden_with_that_of_the_server() {
    let tenant = "[listeners.inner]\naddress = \"127.0.0.1:0\"\n".to_owned();
    let bridge = TestBridge::with(Setup { tenant, ..<_>::default() }).await;
    let mut listeners = bridge.bridge.listeners().iter();
    let (_, addr) = listeners.find(|(name, _)| name.as_str() == "inner").expect("there");
    let mut peer = Peer::connect(*addr, None).await.expect("connected");
    for (of_all, expected) in [("true", "0"), ("false", "12")] {
        let server = format!("reflection = {of_all}\n");
        bridge.reload(&Setup { server, ..<_>::default() });
        let told = peer.call(REFLECTION, &list_services(), &[]).await.expect("an answer");
        assert_eq!(told.code(), expected, "{of_all}: {told:?}");
    }
}

/// The page and readiness go on to warn of what holds until a restart.
#[tokio::test]
async fn a_reload_keeps_the_warnings_of_what_takes_a_restart() {
    let site = Site::new(<_>::default()).await;
    let server = "core_dumps = true\n".to_owned();
    let tenant = "limits.requests = 900\n".to_owned();
    let bridge = TestBridge::at(&site, &Setup { server, tenant, ..<_>::default() }).await;
    let warnings = async || {
        let (_, ready) = bridge.ask("GET /readyz").await;
        [ready.contains("server.core_dumps"), ready.contains("tenants.acme.limits.requests")]
    };
    assert_eq!(warnings().await, [true, true]);
    let Reloaded { taken, needs_restart } = bridge.reload(&Setup::default());
    assert_eq!(taken, ["tenants.acme.limits.requests"]);
    assert_eq!(needs_restart, ["server.core_dumps"]);
    assert_eq!(warnings().await, [true, false]);
}

/// A warning of what a restart would bring is none yet.
#[tokio::test]
async fn a_reload_warns_of_what_is_in_force_alone() {
    let site = Site::new(<_>::default()).await;
    let setup = |server: &str, tenant: &str| Setup {
        server: server.to_owned(),
        tenant: tenant.to_owned(),
        ..<_>::default()
    };
    let bridge =
        TestBridge::at(&site, &setup("limits.calls = 100\n", "limits.calls = 100\n")).await;
    let warnings = || bridge.bridge.warnings();
    let none = warnings();
    // Both limits are raised, and only that of the tenant counts.
    let raised = setup("limits.calls = 5000\n", "limits.calls = 2048\n");
    assert_eq!(bridge.reload(&raised).taken, ["tenants.acme.limits.calls"]);
    let told = warnings();
    let is_told =
        |told: &[String]| told.iter().any(|it| it.starts_with("server.limits.calls is 100,"));
    assert!(is_told(&told), "{told:?}");
    let text = bridge.ask("GET /readyz").await.1;
    assert!(told.iter().all(|warning| text.contains(warning.as_str())), "{text}");

    let dumps = setup("limits.calls = 100\ncore_dumps = true\n", "limits.calls = 90\n");
    assert_eq!(bridge.reload(&dumps).needs_restart, ["server.core_dumps"]);
    assert_eq!(warnings(), none, "core dumps are not allowed, and all calls have places");
    bridge.reload(&setup("limits.calls = 100\n", "limits.calls = 90\n"));
    assert_eq!(warnings(), none);
}

#[tokio::test]
async fn the_default_deadline_follows_the_tenants_unless_it_is_given() {
    let site = Site::new(<_>::default()).await;
    let slow = || "timeouts.sign_in = \"50s\"\n".to_owned();
    let bridge = TestBridge::at(&site, &Setup::default()).await;
    let before = bridge.bridge.default_deadline();
    bridge.reload(&Setup { tenant: slow(), ..<_>::default() });
    let after = bridge.bridge.default_deadline();
    assert!(before < Duration::from_secs(50) && after > Duration::from_secs(50), "{after:?}");
    bridge.reload(&Setup::default());
    assert_eq!(bridge.bridge.default_deadline(), before);
    let server = "default_deadline = \"7s\"\n".to_owned();
    let given = bridge.reload(&Setup { server, tenant: slow(), ..<_>::default() });
    assert_eq!(given.needs_restart, ["server.default_deadline"]);
    assert_eq!(bridge.bridge.default_deadline(), after, "the given one waits for a restart");
    assert!(bridge.bridge.warnings().is_empty());

    let server = || "default_deadline = \"20s\"\n".to_owned();
    let bridge = TestBridge::at(&site, &Setup { server: server(), ..<_>::default() }).await;
    bridge.reload(&Setup { server: server(), tenant: slow(), ..<_>::default() });
    assert_eq!(bridge.bridge.default_deadline(), Duration::from_secs(20));
    let warnings = bridge.bridge.warnings();
    assert!(
        warnings.iter().any(|it| it.starts_with("server.default_deadline is 20s,")),
        "{warnings:?}"
    );
}

#[tokio::test]
async fn tenants_for_whom_the_running_bridge_has_no_places_are_refused() {
    let site = Site::new(<_>::default()).await;
    let setup = |places: usize, settings: &str| Setup {
        server: format!("limits.calls = {places}\n"),
        settings: settings.to_owned(),
        ..<_>::default()
    };
    let bridge = TestBridge::at(&site, &setup(1, "")).await;
    let more = setup(2, "tenants.other.base_urls = [\"https://gateway.other.example\"]");
    let refused = bridge.try_reload(&more).expect_err("refused").to_string();
    assert!(refused.contains("server.limits.calls"), "{refused}");
    let would = bridge.bridge.reload_would_change(&site.config(&more)).expect_err("refused");
    assert_eq!(would.to_string(), refused);
}

#[tokio::test]
async fn a_watch_of_a_tenant_that_is_removed_ends_with_that_whatever_rules_say() {
    let site = Site::new(<_>::default()).await;
    let settings = |tenants: &str, more: &str| {
        format!(
            "callers.all = {{ principals = [\"anonymous\"], tenants = {tenants}, rights = [\"*\"] }}\n{more}"
        )
    };
    let other =
        settings("[\"other\"]", "tenants.other.base_urls = [\"https://gateway.other.example\"]");
    let bridge = TestBridge::at(&site, &Setup { settings: other, ..<_>::default() }).await;
    let mut watcher = Peer::connect(bridge.bridge.grpc_addr(), None).await.expect("connected");
    let message =
        WatchEventsRequest { tenant_id: "other".into(), ..<_>::default() }.encode_to_vec();
    let watching = tokio::spawn(async move {
        watcher.watch("/ccgateway.agent.v1.AgentEvents/WatchEvents", &message, &[]).await
    });
    let open = "ccgw_tenant_places_in_use{tenant=\"other\",share=\"watches\"}";
    until_asked("the stream to be open", async || bridge.scrape().await.get(open) == Some(&1.0))
        .await;
    bridge.reload(&Setup { settings: settings("[\"acme\"]", ""), ..<_>::default() });
    let told = watching.await.expect("no panic").expect("an answer");
    assert_eq!(told.code(), NOT_FOUND, "{told:?}");
}
