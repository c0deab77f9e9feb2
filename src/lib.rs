//! ccgateway-bridge lets internal gRPC services control call-centre agents on a Huawei CC-Gateway.
//!
//! A call passes through the modules in one direction, in the order below. [`server`] accepts
//! connections, [`rpc`] checks the request, [`tenant`] admits the call and finds the agent's
//! [`session`], and [`gateway`] sends the request to the tenant's gateway. The result is an answer
//! or a [`call::CallError`], and [`rpc`] turns it into a message or a status.
//!
//! `ARCHITECTURE.md` has the invariants and a walk through one call.

pub mod server;

pub mod rpc;

pub mod tenant;

pub mod session;

pub mod gateway;

pub mod access;
#[cfg(test)]
mod architecture_tests;
pub mod call;
mod certificate;
pub mod client;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod command;
pub mod config;
pub mod doctor;
#[cfg(test)]
mod documents_for_tests;
mod error_cause;
pub mod event;
mod hex;
pub mod id;
pub mod keyring;
#[cfg(test)]
mod module_rules_tests;
pub mod reason;
mod resolver;
pub mod retcode;
mod secret;
pub mod state;
pub mod telemetry;
pub mod time;
mod tls;
pub mod version;
