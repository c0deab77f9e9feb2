//! ccgateway-bridge

pub mod id;
pub mod retcode;
#[cfg(feature = "simulator")]
pub mod sim;
