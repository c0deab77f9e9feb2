//! Facts of a release that are in more than one place, and the script that finds renamed names; see
//! docs/contributing/releasing.md.

use std::{path::Path, process::Command, time::Duration};

use ccgateway_bridge::config::{Sources, load};
use tempfile::TempDir;

/// Exit code and output of `scripts/find-uses`, in the project's folder.
fn find_uses(args: &[&str]) -> (Option<i32>, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let done = Command::new("bash").arg("scripts/find-uses").args(args).current_dir(root).output();
    let done = done.expect("bash runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), text(&done.stdout) + &text(&done.stderr))
}

#[test]
fn images_and_manifests_are_of_the_programs_version() {
    let version = env!("CARGO_PKG_VERSION");
    let chart = include_str!("../../deploy/helm/ccgateway-bridge/Chart.yaml");
    let dev = include_str!("../../deploy/helm/ccgateway-bridge/examples/dev.yaml");
    let files = [
        (include_str!("../../deploy/Dockerfile"), "ARG VERSION="),
        (include_str!("../../deploy/overlays/dev/kustomization.yaml"), "newTag: "),
        (chart, "version: "),
        (chart, "appVersion: "),
        (dev, "image: ccgateway-sim:"),
    ];
    for (text, before) in files {
        let named: Vec<_> =
            text.lines().filter_map(|line| line.trim().strip_prefix(before)).collect();
        assert!(!named.is_empty(), "{before} is nowhere");
        assert!(named.iter().all(|named| *named == version), "{before}{named:?}, not {version}");
    }
}

#[test]
fn systemd_waits_for_the_end_of_a_drain() {
    let config = Sources::default().with_flag("test", "tenants.acme.base_urls", "https://gw");
    let drain = load(&config).expect("good").server.drain;
    let unit = include_str!("../../deploy/systemd/ccgateway-bridge.service");
    let waits = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec="));
    let waits: u64 = waits.expect("a time").parse().expect("in seconds");
    assert!(Duration::from_secs(waits) >= drain.delay + drain.timeout + Duration::from_secs(5));
}

#[test]
fn the_readmes_badges_say_what_the_manifest_says() {
    let (rust, licence) = (env!("CARGO_PKG_RUST_VERSION"), "Apache-2.0");
    assert!(include_str!("../../Cargo.toml").contains(&format!("license = \"{licence}\"")));
    let badges = [
        (include_str!("../../docs/images/msrv.svg"), format!("Rust: {rust}+")),
        (include_str!("../../docs/images/licence.svg"), format!("licence: {licence}")),
    ];
    for (badge, text) in badges {
        assert!(badge.contains(&text), "{text} in {badge}");
    }
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&format!("[![Rust {rust} or newer](docs/images/msrv.svg)]")));
    assert!(readme.contains(&format!("[![Licence: {licence}](docs/images/licence.svg)]")));
}

#[test]
fn what_the_project_itself_ships_uses_no_name_of_old() {
    let places = ["README.md", "deploy", "docs", "examples", "proto", "scripts/draw-dashboard.py"];
    assert_eq!(find_uses(&places), (Some(0), String::new()));
}

#[test]
fn uses_of_old_names_are_found_however_they_are_spelled() {
    let files = TempDir::new().expect("a folder");
    let path = |name: &str| files.path().join(name).display().to_string();
    let table = "# a comment\n\
                 contract\tSetThing\tSetOther\n\
                 contract\tOLD_REASON\tNEW_REASON\n\
                 metric\tccgw_old\tccgw_new\n\
                 field\told.name\tccgw.old.name";
    std::fs::write(path("table.tsv"), table).expect("written");
    std::fs::create_dir(path("code")).expect("a folder");
    for (name, text) in [
        ("code/A.java", "stub.setThing(r);\n"),
        ("code/b.py", "ok\nstub.SetThing(r)\n# set_thing, set-thing\nif r == 'OLD_REASON':\n"),
        ("code/c.promql", "rate(ccgw_old_bucket[5m])\nccgw_old_ones\nmy_ccgw_old\nccgw_old\n"),
        ("code/d.jq", ".\"ccgw.old.name\"\n.\"old.name\"\nold.names old_name\n"),
        ("fine", "setOther ccgw_new ccgw.old.name NEW_REASON resetting\n"),
    ] {
        std::fs::write(path(name), text).expect("written");
    }
    let (code, printed) = find_uses(&["-t", &path("table.tsv"), &path("code")]);
    let folder = path("code/");
    let mut uses: Vec<_> = printed.lines().map(|line| line.replace(&folder, "")).collect();
    uses.sort();
    let expected = [
        "A.java:1: SetThing is now SetOther",
        "b.py:2: SetThing is now SetOther",
        "b.py:3: SetThing is now SetOther",
        "b.py:4: OLD_REASON is now NEW_REASON",
        "c.promql:1: ccgw_old is now ccgw_new",
        "c.promql:4: ccgw_old is now ccgw_new",
        "d.jq:2: old.name is now ccgw.old.name",
    ];
    assert_eq!((code, uses), (Some(1), expected.map(str::to_owned).to_vec()));
    let fine = find_uses(&["-t", &path("table.tsv"), &path("fine")]);
    assert_eq!(fine, (Some(0), String::new()));
    for mistake in [&[][..], &["/nowhere/at/all"], &["-t", "/nowhere/table", "docs"]] {
        assert_eq!(find_uses(mistake).0, Some(2), "{mistake:?}");
    }
}
