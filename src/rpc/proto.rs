//! The types and services that `build.rs` generates from `proto/`.

#![allow(
    clippy::pedantic,
    clippy::excessive_nesting,
    rustdoc::invalid_html_tags,
    unreachable_pub,
    missing_debug_implementations,
    unused_qualifications,
    reason = "generated code keeps its generator's style"
)]

use std::fmt;

use secrecy::zeroize::Zeroize;

tonic::include_proto!("ccgateway.agent.v1");

/// Every file of the contract with its imports, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// gRPC's protocol for health.
pub mod health {
    tonic::include_proto!("grpc.health.v1");

    /// Its file, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/health.bin"));
}

// `build.rs` generates no `Debug` for messages with secrets. These leave the secrets out, and nothing else,
// since the audit log has them.

impl fmt::Debug for RegisterSessionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agent_id, guid: _, ttl, tenant_id } = self;
        f.debug_struct("RegisterSessionRequest")
            .field("agent_id", agent_id)
            .field("ttl", ttl)
            .field("tenant_id", tenant_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SignInRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            agent_id,
            password: _,
            phone_number,
            tenant_id,
            force,
            initial_state,
            agent_type,
            auto_answer,
            auto_enter_idle,
            release_phone,
            ip,
            check_in_web_media,
            check_in_mail_media,
            request_id,
        } = self;
        f.debug_struct("SignInRequest")
            .field("agent_id", agent_id)
            .field("phone_number", phone_number)
            .field("tenant_id", tenant_id)
            .field("force", force)
            .field("initial_state", &Named::<sign_in_request::InitialState>::of(*initial_state))
            .field("agent_type", &Named::<AgentType>::of(*agent_type))
            .field("auto_answer", auto_answer)
            .field("auto_enter_idle", auto_enter_idle)
            .field("release_phone", release_phone)
            .field("ip", ip)
            .field("check_in_web_media", check_in_web_media)
            .field("check_in_mail_media", check_in_mail_media)
            .field("request_id", request_id)
            .finish_non_exhaustive()
    }
}

/// A value of an enum, shown by its name; a number that has none as it is.
struct Named<E>(Result<E, i32>);

impl<E: TryFrom<i32>> Named<E> {
    fn of(number: i32) -> Self {
        Self(E::try_from(number).map_err(|_unknown| number))
    }
}

impl<E: fmt::Debug> fmt::Debug for Named<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(value) => fmt::Debug::fmt(value, f),
            Err(number) => fmt::Debug::fmt(number, f),
        }
    }
}

impl Zeroize for RegisterSessionRequest {
    fn zeroize(&mut self) {
        self.guid.zeroize();
    }
}

impl Zeroize for SignInRequest {
    fn zeroize(&mut self) {
        self.password.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    const CONTRACT: &str = include_str!("../../proto/ccgateway/agent/v1/agent_session.proto");

    /// The names of a message's fields, without those that the contract calls secret.
    fn told(message: &str) -> Vec<String> {
        let is_secret = |name: &str| {
            let redacted = CONTRACT.lines().filter(|line| line.contains("debug_redact = true"));
            redacted.into_iter().any(|line| line.contains(&format!(" {name} = ")))
        };
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let mut messages = set.file.iter().flat_map(|file| &file.message_type);
        let message = messages.find(|known| known.name() == message).unwrap();
        let names = message.field.iter().map(|field| field.name().to_owned());
        names.filter(|name| !is_secret(name)).collect()
    }

    #[test]
    fn of_a_request_with_secrets_only_these_are_not_shown() {
        let (password, guid) = (Some("canary".to_owned()), "canary".to_owned());
        let sign_in =
            SignInRequest { password, initial_state: 3, agent_type: 77, ..<_>::default() };
        let register = RegisterSessionRequest { guid, ..<_>::default() };
        for (message, shown, secret) in [
            ("SignInRequest", format!("{sign_in:?}"), "password"),
            ("RegisterSessionRequest", format!("{register:?}"), "guid"),
        ] {
            let told = told(message);
            assert!(told.len() >= 3 && !told.contains(&secret.to_owned()), "{told:?}");
            for name in told {
                assert!(shown.contains(&format!("{name}: ")), "{name} is not in {shown}");
            }
            assert!(!shown.contains(secret) && !shown.contains("canary"), "{shown}");
        }
        let shown = format!("{sign_in:?}");
        assert!(shown.contains("initial_state: Busy, agent_type: 77,"), "{shown}");
    }
}
