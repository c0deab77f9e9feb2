//! ccgateway-bridge

pub mod call;
pub mod config;
pub mod gateway;
pub mod id;
pub mod retcode;
pub mod rpc;
pub mod server;
pub mod session;
pub mod telemetry;
pub mod tenant;
