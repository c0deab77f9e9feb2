//! Which methods callers can call.

use crate::telemetry::metrics;

/// Defines [`Method`] by the names of its services and methods, which are in paths, logs and metrics.
macro_rules! methods {
    ($($method:ident $name:literal),+ $(,)?) => {
        /// A method that callers can call. Those of the contract come first.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Method {
            $(
                #[doc = concat!("`", $name, "`.")]
                $method,
            )+
        }

        impl Method {
            /// All of them, by number.
            pub(crate) const ALL: [Self; 20] = [$(Self::$method),+];

            /// Its service and its own name, for example `ccgateway.agent.v1.AgentState/SetBusy`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$method => $name,)+
                }
            }

            /// The method that a path names. It has to be exactly the method's own.
            pub fn of(path: &str) -> Option<Self> {
                match path.strip_prefix('/')? {
                    $($name => Some(Self::$method),)+
                    _ => None,
                }
            }
        }
    };
}

methods!(
    WatchEvents "ccgateway.agent.v1.AgentEvents/WatchEvents",
    GetSession "ccgateway.agent.v1.AgentSession/GetSession",
    RegisterSession "ccgateway.agent.v1.AgentSession/RegisterSession",
    SignIn "ccgateway.agent.v1.AgentSession/SignIn",
    SignOut "ccgateway.agent.v1.AgentSession/SignOut",
    BatchSetBusy "ccgateway.agent.v1.AgentState/BatchSetBusy",
    CancelAfterCallWork "ccgateway.agent.v1.AgentState/CancelAfterCallWork",
    CancelBusy "ccgateway.agent.v1.AgentState/CancelBusy",
    CancelResting "ccgateway.agent.v1.AgentState/CancelResting",
    GetState "ccgateway.agent.v1.AgentState/GetState",
    GetStateChange "ccgateway.agent.v1.AgentState/GetStateChange",
    SetAfterCallWork "ccgateway.agent.v1.AgentState/SetAfterCallWork",
    SetBusy "ccgateway.agent.v1.AgentState/SetBusy",
    SetIdle "ccgateway.agent.v1.AgentState/SetIdle",
    SetResting "ccgateway.agent.v1.AgentState/SetResting",
    CheckHealth "grpc.health.v1.Health/Check",
    ListHealth "grpc.health.v1.Health/List",
    WatchHealth "grpc.health.v1.Health/Watch",
    Reflect "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ReflectAlpha "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
);

impl Method {
    /// Its number, by which its metrics are found.
    pub(super) fn number(self) -> usize {
        self as usize
    }

    pub(super) fn is_of_contract(self) -> bool {
        self.name().starts_with("ccgateway.")
    }

    pub(super) fn is_health(self) -> bool {
        matches!(self, Self::CheckHealth | Self::ListHealth | Self::WatchHealth)
    }

    /// Whether it is one of reflection, of any version. Only their requests are streams.
    pub fn is_reflection(self) -> bool {
        matches!(self, Self::Reflect | Self::ReflectAlpha)
    }

    /// Whether its answer is a stream.
    pub(crate) fn streams(self) -> bool {
        matches!(self, Self::WatchEvents | Self::WatchHealth) || self.is_reflection()
    }
}

/// Every method of the contract, by number.
pub fn methods() -> Vec<metrics::Method> {
    let of_contract = Method::ALL.into_iter().take_while(|method| method.is_of_contract());
    let named = of_contract.filter_map(|method| {
        let (service, name) = method.name().split_once('/')?;
        Some(metrics::Method { service, name, streams: method.streams() })
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::{FileDescriptorProto, FileDescriptorSet};
    use tonic_reflection::pb::{v1, v1alpha};

    use super::*;
    use crate::rpc::proto::{FILE_DESCRIPTOR_SET, health};

    /// The names of a file's methods, and whether their requests and their answers are streams.
    fn described(file: &FileDescriptorProto) -> Vec<(String, bool, bool)> {
        let mut methods = Vec::new();
        for service in &file.service {
            methods.extend(service.method.iter().map(|method| {
                let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                (name, method.client_streaming(), method.server_streaming())
            }));
        }
        methods
    }

    #[test]
    fn every_method_is_as_its_descriptor_has_it() {
        let sets = [
            FILE_DESCRIPTOR_SET,
            health::FILE_DESCRIPTOR_SET,
            v1::FILE_DESCRIPTOR_SET,
            v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let files = sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).unwrap().file);
        let mut described: Vec<_> = files.flat_map(|file| described(&file)).collect();
        described.sort();
        let known =
            |method: Method| (method.name().to_owned(), method.is_reflection(), method.streams());
        let mut known = Method::ALL.map(known).to_vec();
        known.sort();
        assert_eq!(known, described);
    }

    #[test]
    fn the_methods_of_the_contract_have_metrics_by_number() {
        let methods = methods();
        for method in Method::ALL {
            let of_metrics = methods.get(method.number());
            let named = of_metrics.map(|of| format!("{}/{}", of.service, of.name));
            let expected = method.is_of_contract().then(|| method.name().to_owned());
            assert_eq!(named, expected, "{method:?}");
        }
    }

    #[test]
    fn a_path_names_a_method_only_if_it_is_exactly_its_own() {
        for method in Method::ALL {
            let name = method.name();
            assert_eq!(Method::of(&format!("/{name}")), Some(method));
            for path in [name.to_owned(), format!("//{name}"), format!("/{name}/")] {
                assert_eq!(Method::of(&path), None, "{path}");
            }
        }
        assert_eq!([Method::of(""), Method::of("/")], [None, None]);
    }
}
