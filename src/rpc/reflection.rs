//! Reflection, which tells tools of services and messages.

use std::{convert::Infallible, sync::OnceLock};

use http::{Request, Response, Uri};
use tokio::task::spawn_blocking;
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service as _},
};
use tonic_reflection::{
    pb::{v1, v1alpha},
    server::{Builder, Error},
};

use super::proto::{FILE_DESCRIPTOR_SET, health};

type Answering = BoxFuture<Response<Body>, Infallible>;

/// The service, whose own type cannot be named.
type Service = Box<dyn Fn(Request<Body>) -> Answering + Send + Sync>;

/// Made for the first tool that asks, since it takes a megabyte and some milliseconds, and most processes are
/// never asked.
static SERVICE: OnceLock<Result<Service, Error>> = OnceLock::new();

/// The method of version v1.
const PATH: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// Answers a request of either version, for tools of any age: v1alpha has the same messages as v1.
pub(super) fn reflect(mut request: Request<Body>) -> Answering {
    *request.uri_mut() = Uri::from_static(PATH);
    Box::pin(async move {
        match made(&SERVICE, service).await {
            Some(Ok(service)) => service(request).await,
            // Only wrong descriptors can cause that. They are made at build time, and a test reads them.
            _ => Ok(Status::unimplemented("").into_http()),
        }
    })
}

/// What `cell` has. Where that is not made yet, a separate thread makes it, and finishes even if the caller leaves.
/// `None` if it has panicked; the next caller tries again then.
async fn made<T: Send + Sync + 'static>(
    cell: &'static OnceLock<T>,
    make: impl FnOnce() -> T + Send + 'static,
) -> Option<&'static T> {
    if let Some(there) = cell.get() {
        return Some(there);
    }
    spawn_blocking(move || cell.get_or_init(make)).await.ok()
}

/// Builds the service. It includes the types of error details, since a tool can only decode details whose
/// types it finds here.
fn service() -> Result<Service, Error> {
    let service = Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(health::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(v1alpha::FILE_DESCRIPTOR_SET)
        .include_reflection_service(false)
        .build_v1()?;
    Ok(Box::new(move |request| service.clone().call(request)))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full};

    use super::*;
    use crate::rpc::Method;

    #[tokio::test]
    async fn both_versions_say_the_same() {
        let services = async |version: Method| {
            let list = Bytes::from_static(&[0, 0, 0, 0, 2, 0x3a, 0]);
            let request = Request::post(format!("/{}", version.name()));
            let request = request.body(Body::new(Full::from(list))).unwrap();
            reflect(request).await.unwrap().into_body().collect().await.unwrap().to_bytes()
        };
        let listed = services(Method::Reflect).await;
        assert!(listed.windows(10).any(|part| part == b"AgentState"), "{listed:?}");
        assert_eq!(listed, services(Method::ReflectAlpha).await);
    }

    #[tokio::test]
    async fn it_is_made_once_on_a_thread_that_serves_nobody_and_a_panic_holds_nobody_up() {
        static CELL: OnceLock<thread::ThreadId> = OnceLock::new();
        assert_eq!(made(&CELL, || panic!("as if a descriptor were wrong")).await, None);
        let by = made(&CELL, || thread::current().id()).await.expect("made");
        assert_ne!(*by, thread::current().id());
        assert_eq!(made(&CELL, || panic!("it is there")).await, Some(by));
    }
}
