//! What is in the memory of a process that serves.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
};

use ccgateway_sim::Options;
use ccgateway_test_support::{
    AGENT, Certificate, Output, Program, Setup, Site,
    raw_gateway::{RawGateway, Step, accepting},
};
use futures_util::future::join_all;
use memchr::memmem;

use crate::support::{bridge, setup};

/// How often some bytes are in the memory that a process can write to.
fn count(pid: u32, wanted: &[u8]) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("Linux");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("a process of our own");
    let ranges = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-').filter(|_| rest.starts_with("rw"))?;
        let address = |digits| u64::from_str_radix(digits, 16).expect("an address");
        Some((address(from), address(to)))
    });
    let found = ranges.map(|(from, to)| {
        let mut bytes = vec![0; usize::try_from(to - from).expect("it fits")];
        // A mapping may be gone since.
        let is_read = memory.read_exact_at(&mut bytes, from).is_ok();
        if is_read { memmem::find_iter(&bytes, wanted).count() } else { 0 }
    });
    found.sum()
}

#[tokio::test]
async fn no_file_with_secrets_is_in_memory_after_it_was_read() {
    const NOTE: &str = "canary-note-beside-the-passwords";
    const KEY: &str = "c0ffeed8a295da885a5be3f06e7022f6a70c0443a1a08f520ad7aa6a0a517eb9";
    const WANTED: &str = "canary-of-an-agent-that-has-";
    let site = Site::new(Options::default()).await;
    site.write("canary.key", KEY);
    let agents: Vec<_> = (1001..1100)
        .map(|agent| format!("[agents.{agent}] # {NOTE}\npassword = \"{WANTED}{agent}\"\n"))
        .collect();
    site.write("own.toml", agents.concat());
    let own = Certificate::of("localhost", site.path("").as_path());
    let pem = fs::read_to_string(&own.key).expect("readable");
    let line = pem.lines().nth(1).expect("a line of base64");

    // Without core dumps only root could read the memory.
    let mut setup =
        setup(&format!("listeners.default.tls = {}\nserver.core_dumps = true", own.table()));
    setup.store = "file = \"sessions.redb\"\nencryption_key_files = \"canary.key\"\n".into();
    setup.tenant = "credentials_file = \"own.toml\"".into();
    let program = Program::start(&site, bridge(), &setup, Output::Read).await;

    assert!(count(program.pid(), WANTED.as_bytes()) >= 99, "memory can be read");
    for (secret, text) in [("credentials", NOTE), ("the key", KEY), ("the TLS key", line)] {
        assert_eq!(count(program.pid(), text.as_bytes()), 0, "the file with {secret}");
    }
}

/// Nothing else has such a line: callers send Guids in another form, and without TLS no library copies a request.
#[tokio::test]
async fn no_guid_is_in_memory_as_requests_have_it_once_they_are_written() {
    const GUID: &str = "canary-of-a-request";
    let (site, gateway) = (Site::new(Options::default()).await, RawGateway::plain().await);
    let base_url = Some(gateway.base_url());
    let setup = Setup { base_url, keep: false, ..setup("server.core_dumps = true") };
    let program = Program::start(&site, bridge(), &setup, Output::Read).await;
    let agents = AGENT..AGENT + 20;
    // With it a request is longer than most, so its buffer has to grow.
    let cookie = format!("Set-Cookie: a={}\r\n", "b".repeat(1000));
    for agent in agents.clone() {
        program.register(agent, &format!("{GUID}-{agent}")).await.expect("registered");
        gateway.script([Step::Send(accepting(&cookie))]);
        program.set_busy(agent).await.expect("accepted");
    }
    for answer in join_all(agents.map(|agent| program.set_busy(agent))).await {
        answer.expect("accepted");
    }
    let (line, got) = (format!("Guid: {GUID}"), gateway.got());
    let is_sent = |sent: &str| got.iter().any(|got| got.head.contains(sent));
    assert!(is_sent(&line) && is_sent("Cookie: a=bbb"));
    assert!(count(program.pid(), GUID.as_bytes()) >= 20, "memory can be read");
    assert_eq!(count(program.pid(), line.as_bytes()), 0);
}
