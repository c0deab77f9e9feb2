//! How many requests a gateway gets for each call while all of them come to nothing.

use std::time::Duration;

use ccgateway_sim::{Fault, Interface, Misbehaviour, Options};

use crate::site::{Failure, Site, failed, lasting, plain};

const RATE: f64 = 1000.0;
const DEADLINE: Duration = Duration::from_secs(2);

pub(crate) async fn run() -> Result<(), Failure> {
    let refusal =
        |retcode: &str| Fault::Retcode { retcode: retcode.into(), message: String::new() };
    let unavailable = Fault::Status {
        status: 503,
        headers: Vec::new(),
        body: Vec::new(),
        content_type: "text/plain".into(),
    };
    println!(
        "every request fails            calls  failed  requests  requests for each call (goal: 1.1)"
    );
    for (name, fault) in [
        ("its Guid is refused", refusal("100-006")),
        ("another call is in its way", refusal("000-007")),
        ("a proxy says 503", unavailable),
        ("the answer is cut", Fault::CutBeforeAnswer),
    ] {
        let options = Options { journal: 1_000_000, ..plain() };
        // With the breaker, most calls would not be sent.
        let settings = [("TENANTS__BENCH__BREAKER__FAILURES", "0")];
        let site = Site::start(options, 1001..3001, &settings).await?;
        site.gateway.misbehave(Misbehaviour::always(fault.clone()).on(Interface::SayBusy));
        site.gateway.misbehave(Misbehaviour::always(fault).on(Interface::AgentStatus));
        let ended = site.caller.call(RATE, lasting(10.0), DEADLINE).await;
        let (calls, requests) = (ended.len(), site.gateway.journal().len());
        println!(
            "{name:<28}  {calls:>6}  {:>6}  {requests:>8}  {:>6.2}",
            failed(&ended),
            requests as f64 / calls as f64
        );
        site.end().await;
    }
    Ok(())
}
