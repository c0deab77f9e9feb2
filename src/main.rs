//! The `ccgateway-bridge` program.

use std::process::ExitCode;

use ccgateway_bridge::command;
use mimalloc::MiMalloc;

/// A call allocates about a hundred times, while many others do. The allocator of glibc takes a seventh of a
/// call's instructions for that, and this one a third of them. It does without huge pages (the feature
/// `no_thp`), with which a kept session takes half as much memory again.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // Must come before any use of TLS: rustls would otherwise choose a provider by the features
    // that happen to be compiled in, or panic. The call only fails if a provider is installed
    // already.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    command::run(std::env::args_os())
}
