//! Compiles `proto/` without protoc and keeps the descriptor set, which reflection serves.

use std::{env, error::Error, fs, path::PathBuf};

use tonic_prost_build::Config;

const PROTO_ROOT: &str = "proto";
const FILES: [&str; 3] = [
    "ccgateway/agent/v1/agent_state.proto",
    "ccgateway/agent/v1/agent_session.proto",
    "ccgateway/agent/v1/agent_events.proto",
];
/// Messages that carry a password or a Guid: their `Debug` is written by hand and shows neither.
const SECRET_MESSAGES: [&str; 2] =
    ["ccgateway.agent.v1.RegisterSessionRequest", "ccgateway.agent.v1.SignInRequest"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO_ROOT}");
    let descriptors = protox::compile(FILES, [PROTO_ROOT])?;

    let mut config = Config::new();
    config.skip_debug(SECRET_MESSAGES);
    config.extern_path(".google.rpc", "::tonic_types::pb");
    tonic_prost_build::configure().compile_fds_with_config(descriptors.clone(), config)?;

    let out = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(out, prost_bytes(&descriptors))?;
    Ok(())
}

fn prost_bytes(descriptors: &protox::prost_reflect::prost_types::FileDescriptorSet) -> Vec<u8> {
    use protox::prost_reflect::prost::Message as _;
    descriptors.encode_to_vec()
}
