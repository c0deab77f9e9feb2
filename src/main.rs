//! The `ccgateway-bridge` program.

use std::process::ExitCode;

use ccgateway_bridge::command;
use mimalloc::MiMalloc;

/// A call allocates about a hundred times, while many others do. The allocator of glibc takes a seventh
/// of a call's instructions for it, and this one half of that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // Must come before any use of TLS: rustls would otherwise choose a provider by the features
    // that happen to be compiled in, or panic. The call only fails if a provider is installed
    // already.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    command::run(std::env::args_os())
}
