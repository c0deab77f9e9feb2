//! The `ccgateway-bridge` program.

use std::process::ExitCode;

use ccgateway_bridge::command::Args;
use clap::Parser as _;

fn main() -> ExitCode {
    // Before anything can use TLS: rustls would otherwise pick a provider by the features that
    // happen to be compiled in, or panic. It is installed already only if this ran before.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Args::parse().run()
}
