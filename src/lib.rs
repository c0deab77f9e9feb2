//! ccgateway-bridge

pub mod config;
pub mod id;
pub mod retcode;
pub mod rpc;
pub mod server;
pub mod session;
pub mod telemetry;
pub mod tenant;
