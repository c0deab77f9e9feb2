//! Simulated CC-Gateways, for integrators who have no real one; see `ccgateway-sim --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ccgateway_sim::program::main()
}
