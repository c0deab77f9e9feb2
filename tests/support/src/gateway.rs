//! Simulated gateways.

use ccgateway_sim::{Entry, Fault, Interface, Misbehaviour, Options, Simulator};

use crate::PASSWORD;

/// A gateway that accepts [`PASSWORD`] for every agent.
pub async fn gateway(options: Options) -> Simulator {
    let options = Options { default_password: Some(PASSWORD.into()), ..options };
    Simulator::start(options).await.expect("the gateway starts")
}

/// The requests that a gateway got for this interface.
pub fn asked(gateway: &Simulator, interface: Interface) -> Vec<Entry> {
    let mut journal = gateway.journal();
    journal.retain(|entry| entry.interface == Some(interface));
    journal
}

/// A rule that answers requests for an agent's status with this result.
pub fn said(agent: u32, result: &str) -> Misbehaviour {
    let body = format!(r#"{{"message":"","retcode":"0","result":{result}}}"#).into();
    let fault = Fault::Raw { body, content_type: "application/json".into(), headers: Vec::new() };
    Misbehaviour::always(fault).on(Interface::AgentStatus).of(agent)
}
