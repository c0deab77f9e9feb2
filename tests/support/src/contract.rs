use std::collections::BTreeSet;

use ccgateway_bridge::rpc::proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodOptions, method_options::IdempotencyLevel};

/// The methods that change nothing, as `package.Service/Method`: the contract gives them the
/// `idempotency_level` NO_SIDE_EFFECTS.
pub fn reading_methods() -> BTreeSet<String> {
    let contract = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
    let mut reading = BTreeSet::new();
    for file in &contract.file {
        for service in &file.service {
            let methods = service.method.iter().filter(|method| {
                let level = method.options.as_ref().map(MethodOptions::idempotency_level);
                level == Some(IdempotencyLevel::NoSideEffects)
            });
            let service = format!("{}.{}", file.package(), service.name());
            reading.extend(methods.map(|method| format!("{service}/{}", method.name())));
        }
    }
    reading
}
