//! What parts of a warm call cost by themselves.
//!
//! `cargo bench --bench parts` prints the time of each and its allocations, in ten seconds. Where `VALGRIND` names that
//! program, it counts the instructions of each as well, which hardly differ from one run to the next. Both include what
//! it takes to count allocations.

#![allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]

#[path = "process/callgrind.rs"]
mod callgrind;

use std::{env, error::Error, ffi::OsStr, fmt, num::NonZeroUsize, time::Duration};

use bytes::{BufMut as _, BytesMut};
use ccgateway_bridge::{
    call::{CallError, Refusal},
    config::Overrides,
    gateway::{Envelope, measured::Targets, say_busy},
    id::{AgentId, DEFAULT_AGENT_IDS},
    rpc::{
        Encoding,
        fuzzing::{Told, status},
        proto::SetBusyRequest,
    },
    server::fuzzing::Framing,
    session::{Cookies, EmbeddedStore, Guid, NewSession, Origin, SessionStore as _},
    telemetry::log,
};
use divan::{AllocProfiler, Bencher, black_box};
use http::Uri;
use mimalloc::MiMalloc;
use prost::Message as _;
use tempfile::TempDir;
use tracing::info;

#[global_allocator]
static ALLOCATOR: AllocProfiler<MiMalloc> = AllocProfiler::new(MiMalloc);

type Failure = Box<dyn Error + Send + Sync>;

/// A part of a call, by its name.
#[derive(Clone, Copy)]
struct Part(&'static str, fn() -> Option<Run>);

/// Does it once. Returns whether it did what it should.
type Run = Box<dyn Fn() -> bool>;

const METHOD: &str = "ccgateway.agent.v1.AgentState/SetBusy";
const AGENT: &str = "1001";
const GUID: &str = "279fe21d-2caa-4437-84c3-ab9e9dae20f5.AgentGateway1";
const GATEWAY: &str = "https://localhost:8043/agentgateway/resource";
const ANSWER: &[u8] = br#"{"result":{},"message":"success","retcode":"0"}"#;
const REFUSED: &[u8] = br#"{"message":"the agent is talking","retcode":"100-007"}"#;
const SESSIONS: usize = 10_000;
/// How often a part is run while its instructions are counted: in one process, and more often than that in another.
const REPEATS: [u64; 2] = [100, 10_000];

const PARTS: [Part; 7] = [
    Part("decode", decode),
    Part("check", || Some(check())),
    Part("lookup", lookup),
    Part("target", target),
    Part("envelope", || Some(envelope())),
    Part("status", refusal),
    Part("log line", || Some(log_line())),
];

fn main() -> Result<(), Failure> {
    tracing::subscriber::set_global_default(log::unwritten())?;
    if let Ok(asked) = env::var("PARTS_REPEAT") {
        return repeat(&asked);
    }
    divan::main();
    let asked = env::args().any(|flag| flag == "--bench");
    match callgrind::valgrind().filter(|_| asked) {
        Some(valgrind) => print_instructions(&valgrind),
        None => Ok(()),
    }
}

#[divan::bench(args = PARTS)]
fn part(bencher: Bencher<'_, '_>, part: Part) {
    let run = part.made();
    assert!(run.is_some(), "{part} does not do what it should");
    if let Some(run) = run {
        bencher.bench_local(run);
    }
}

/// Runs the part `NAME:TIMES`, while callgrind counts.
fn repeat(asked: &str) -> Result<(), Failure> {
    let (name, times) = asked.rsplit_once(':').ok_or("NAME:TIMES")?;
    let part = PARTS.into_iter().find(|part| part.0 == name).ok_or("no such part")?;
    let run = part.made().ok_or("it does not do what it should")?;
    for _ in 0..times.parse::<u64>()? {
        run();
    }
    Ok(())
}

fn print_instructions(valgrind: &OsStr) -> Result<(), Failure> {
    let folder = TempDir::new()?;
    println!("instructions");
    for Part(name, _) in PARTS {
        let count = |times: u64| {
            let counts = folder.path().join("counts");
            let mut command = callgrind::command(valgrind, &counts, env::current_exe()?);
            let status = command.env("PARTS_REPEAT", format!("{name}:{times}")).status()?;
            if status.success() { callgrind::counted(&counts) } else { Err("it failed".into()) }
        };
        let [before, more] = REPEATS;
        let counted = count(before + more)?.saturating_sub(count(before)?);
        println!("{name:<12} {:>8}", counted / more);
    }
    Ok(())
}

impl Part {
    /// The part, ready to be run. `None` if it does not do what it should.
    fn made(self) -> Option<Run> {
        (self.1)().filter(|run| run())
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The message out of its frame.
fn decode() -> Option<Run> {
    let (agent_id, reason) = (AGENT.to_owned(), Some(200));
    let message = SetBusyRequest { agent_id, reason, ..<_>::default() }.encode_to_vec();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len().try_into().ok()?);
    frame.put_slice(&message);
    let (frame, head) = (frame.freeze(), 5);
    let framing = Framing { limit: 16 * 1024, encoding: Encoding::Identity };
    Some(Box::new(move || {
        let message = framing.only_message(black_box(&frame).clone());
        let message = message.ok().map(|frame| SetBusyRequest::decode(frame.slice(head..)));
        black_box(message).is_some_and(|message| message.is_ok())
    }))
}

/// The fields, and the command that is made of them.
fn check() -> Run {
    Box::new(|| {
        let agent = AgentId::parse(black_box(AGENT), &DEFAULT_AGENT_IDS);
        black_box(say_busy(black_box(Some(200)), Some(true)));
        black_box(agent).is_ok()
    })
}

/// The agent's session, one of ten thousand.
fn lookup() -> Option<Run> {
    let store = EmbeddedStore::new(NonZeroUsize::new(SESSIONS)?);
    let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
    let agents = (1001..).take(SESSIONS);
    let agents: Vec<_> = agents.map(|id| AgentId::lowest(&(id..=id))).collect();
    for agent in &agents {
        let guid = Guid::parse(GUID).ok()?;
        let (origin, ttl) = (Origin::Registered, Some(Duration::from_secs(3600)));
        let session = NewSession { guid, origin, ttl, cookies: Cookies::default() };
        runtime.block_on(store.put(*agent, session)).ok()?;
    }
    let agent = *agents.get(agents.len() / 2)?;
    Some(Box::new(move || black_box(store.cached(black_box(agent))).is_some()))
}

/// The path and query of the request to the gateway.
fn target() -> Option<Run> {
    let targets = Targets::at(&Uri::from_static(GATEWAY))?;
    let (command, agent) = (say_busy(Some(200), Some(true)), AgentId::lowest(&(1001..=1001)));
    Some(Box::new(move || !black_box(targets.target(black_box(&command), agent)).is_empty()))
}

/// The gateway's answer.
fn envelope() -> Run {
    Box::new(|| {
        let envelope = Envelope::read(black_box(ANSWER), Some("utf-8"));
        black_box(envelope).is_ok_and(|envelope| envelope.refused.is_none())
    })
}

/// The status of a call that the gateway has refused.
fn refusal() -> Option<Run> {
    let Envelope { refused, message, .. } = Envelope::read(REFUSED, None).ok()?;
    let (retcode, node) = (refused?, Some("AgentGateway1".into()));
    let error = CallError::Refused(Refusal { retcode, message, node, http_status: 200 });
    let (ids, gateway, left) = (["acme", AGENT], Some("localhost:8043"), None);
    let told = Told { method: METHOD, ids, gateway, left };
    let overrides = Overrides::default();
    Some(Box::new(move || {
        let (status, reason) = status(black_box(&error), &told, &overrides);
        black_box(status);
        !black_box(reason).is_empty()
    }))
}

/// The log line of a call.
fn log_line() -> Run {
    Box::new(|| {
        info!(
            method = black_box(METHOD),
            peer = "127.0.0.1:40000",
            ccgw.caller = "jwt:dev:dev",
            ccgw.tenant.id = "acme",
            ccgw.agent.id = AGENT,
            code = "OK",
            elapsed_ms = black_box(0.321),
            "call"
        );
        true
    })
}
