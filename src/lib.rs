//! ccgateway-bridge

pub mod config;
pub mod id;
pub mod retcode;
