//! The types and services that `build.rs` generates from `proto/`.

#![allow(
    clippy::pedantic,
    clippy::excessive_nesting,
    rustdoc::invalid_html_tags,
    unreachable_pub,
    missing_debug_implementations,
    unused_qualifications,
    reason = "generated code keeps its generator's style"
)]

use std::fmt;

use secrecy::zeroize::Zeroize;

tonic::include_proto!("ccgateway.agent.v1");

/// Every file of the contract with its imports, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// gRPC's protocol for health.
pub mod health {
    tonic::include_proto!("grpc.health.v1");

    /// Its file, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/health.bin"));
}

// `build.rs` generates no `Debug` for messages with secrets. These leave the secrets out.

impl fmt::Debug for RegisterSessionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterSessionRequest")
            .field("tenant_id", &self.tenant_id)
            .field("agent_id", &self.agent_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SignInRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignInRequest")
            .field("tenant_id", &self.tenant_id)
            .field("agent_id", &self.agent_id)
            .field("force", &self.force)
            .finish_non_exhaustive()
    }
}

impl Zeroize for RegisterSessionRequest {
    fn zeroize(&mut self) {
        self.guid.zeroize();
    }
}

impl Zeroize for SignInRequest {
    fn zeroize(&mut self) {
        self.password.zeroize();
    }
}
