//! ccgateway-bridge lets internal gRPC services control call-centre agents on a Huawei CC-Gateway.
//!
//! A call goes one way, and the modules are listed in its order. [`server`] accepts connections,
//! [`rpc`] checks the request, [`tenant`] admits it and finds the agent's [`session`], and
//! [`gateway`] asks the tenant's gateway. What comes of it is a [`call::CallError`] or an answer,
//! which [`rpc`] turns into a status or a message.
//!
//! `ARCHITECTURE.md` has the invariants and a walk through one call.

pub mod server;

pub mod rpc;

pub mod tenant;

pub mod session;

pub mod gateway;

pub mod call;
pub mod client;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod command;
pub mod config;
pub mod doctor;
#[cfg(test)]
mod documents;
pub mod event;
mod hex;
pub mod id;
pub mod keyring;
pub mod reason;
pub mod retcode;
#[cfg(test)]
mod rooms;
pub mod state;
pub mod telemetry;
pub mod time;
mod tls;
pub mod version;
