//! Compiles `proto/` without protoc and keeps the descriptor set, which reflection serves; and finds
//! out which commit is built, and the day of its release.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tonic_prost_build::Config;

/// Tells the commit where there is no repository, as in the Dockerfile's build.
const COMMIT: &str = "CCGW_COMMIT";

/// Has the day of each release.
const CHANGELOG: &str = "CHANGELOG.md";

/// As much of it as anybody reads.
const DIGITS: usize = 12;

const PROTO_ROOT: &str = "proto";
const FILES: [&str; 3] = [
    "ccgateway/agent/v1/agent_state.proto",
    "ccgateway/agent/v1/agent_session.proto",
    "ccgateway/agent/v1/agent_events.proto",
];
/// gRPC's protocol for health. It is not in `proto/`, since callers have it from their gRPC library, and
/// a second file of its name stops programs in Go and Python.
const HEALTH_ROOT: &str = "src/rpc/proto";
const HEALTH: &str = "grpc/health/v1/health.proto";
/// Messages that carry a password or a Guid: their `Debug` is written by hand and shows neither.
const SECRET_MESSAGES: [&str; 2] =
    ["ccgateway.agent.v1.RegisterSessionRequest", "ccgateway.agent.v1.SignInRequest"];

fn main() -> Result<(), Box<dyn Error>> {
    compile(PROTO_ROOT, &FILES, "descriptors.bin")?;
    compile(HEALTH_ROOT, &[HEALTH], "health.bin")?;
    name_version();
    name_day();
    Ok(())
}

/// Generates the code of `files`, and writes their descriptors to the file `out`.
fn compile(root: &str, files: &[&str], out: &str) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={root}");
    let descriptors = protox::compile(files, [root])?;
    let mut config = Config::new();
    config.skip_debug(SECRET_MESSAGES);
    config.extern_path(".google.rpc", "::tonic_types::pb");
    tonic_prost_build::configure()
        .codec_path("crate::rpc::codec::SmallCodec")
        .compile_fds_with_config(descriptors.clone(), config)?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join(out);
    fs::write(out, prost_bytes(&descriptors))?;
    Ok(())
}

/// For `src/version.rs`: the commit, empty where nobody knows it, and the version with it.
fn name_version() {
    println!("cargo:rerun-if-env-changed={COMMIT}");
    let told = || env::var(COMMIT).ok().filter(|commit| is_commit(commit));
    let commit: String =
        from_git().or_else(told).iter().flat_map(|c| c.chars()).take(DIGITS).collect();
    let version = env!("CARGO_PKG_VERSION");
    println!("cargo:rustc-env=CCGW_BUILD_COMMIT={commit}");
    if commit.is_empty() {
        println!("cargo:rustc-env=CCGW_BUILD_VERSION={version}");
    } else {
        println!("cargo:rustc-env=CCGW_BUILD_VERSION={version} ({commit})");
    }
}

/// For the man pages, which are the same whenever they are made: the day of this version's release, or that of the commit
/// where it is not released. Empty where nobody knows either.
fn name_day() {
    // Cargo takes a file that is not there for a changed one.
    if Path::new(CHANGELOG).exists() {
        println!("cargo:rerun-if-changed={CHANGELOG}");
    }
    let heading = format!("## [{}] - ", env!("CARGO_PKG_VERSION"));
    let changelog = fs::read_to_string(CHANGELOG).unwrap_or_default();
    let released = changelog.lines().find_map(|line| line.strip_prefix(&heading));
    let day = released.map(|day| day.trim().to_owned()).or_else(day_of_commit).unwrap_or_default();
    println!("cargo:rustc-env=CCGW_BUILD_DAY={day}");
}

fn day_of_commit() -> Option<String> {
    from_git()?;
    let done = Command::new("git").args(["log", "-1", "--format=%cs"]).output().ok()?;
    let day = String::from_utf8(done.stdout).ok().filter(|_| done.status.success())?;
    Some(day.trim().to_owned())
}

/// The commit of this repository; of none that this one is only a folder of.
fn from_git() -> Option<String> {
    let arguments = ["rev-parse", "--show-toplevel", "--git-path", "logs/HEAD", "--verify", "HEAD"];
    let done = Command::new("git").args(arguments).output().ok()?;
    let printed = String::from_utf8(done.stdout).ok().filter(|_| done.status.success())?;
    let mut lines = printed.lines();
    let (root, log, commit) = (lines.next()?, lines.next()?, lines.next()?);
    let own = Path::new(root).canonicalize().ok() == env::current_dir().ok()?.canonicalize().ok();
    // Every commit adds a line to the log. Cargo takes a file that is not there for a changed one.
    if own && Path::new(log).exists() {
        println!("cargo:rerun-if-changed={log}");
    }
    (own && is_commit(commit)).then(|| commit.to_owned())
}

/// Hexadecimal digits, as version control has them; not "unknown", the Dockerfile's default.
fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn prost_bytes(descriptors: &protox::prost_reflect::prost_types::FileDescriptorSet) -> Vec<u8> {
    use protox::prost_reflect::prost::Message as _;
    descriptors.encode_to_vec()
}
