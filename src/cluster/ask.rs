//! Asks Redis whether it does what the bridge needs, for the doctor.

use super::{
    Shared,
    redis::{LinkError, Probe},
};
use crate::{config::RedisStore, id::TenantId};

/// Connects to Redis as the bridge does, and has it do everything that these tenants need. Says what was
/// found, or what is wrong and what to do about it. Must be called within a tokio runtime.
pub async fn ask(config: &RedisStore, tenants: &[&TenantId]) -> Result<String, (String, String)> {
    let shared = Shared::new(config);
    for tenant in tenants {
        let probe = Probe::new(&shared.keys(tenant));
        probe.ask(shared.link()).await.map_err(|error| {
            let advice = advice(&error).to_owned();
            (error.to_string(), advice)
        })?;
    }
    Ok("Redis does all that the bridge needs".to_owned())
}

fn advice(error: &LinkError) -> &'static str {
    match error {
        // Its text says what to do.
        LinkError::Refused(refusal) => refusal.advice(),
        LinkError::Down(_) | LinkError::Broken(_) => {
            "check store.urls, store.topology and store.tls, and that Redis runs and lets this machine in"
        }
        LinkError::Silent(_) => {
            "look at its load and at the network between, or raise store.timeouts.command"
        }
        LinkError::Unsent(_) => "this is a bug of the bridge: report it",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_to_do_follows_from_what_is_wrong() {
        for (error, words) in [
            (LinkError::Down(String::new()), "store.urls"),
            (LinkError::Broken(String::new()), "store.urls"),
            (LinkError::Silent(Duration::ZERO), "store.timeouts.command"),
            (LinkError::Unsent(String::new()), "report it"),
        ] {
            assert!(advice(&error).contains(words), "{error}");
        }
    }
}
