//! ccgateway-bridge

pub mod id;
pub mod retcode;
