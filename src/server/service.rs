use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    service::Service,
};
use tokio::time::Instant;
use tonic::{body::Body, service::Routes};
use tower_service::Service as _;

use super::{
    house::{Guest, OpenStream},
    intake::{Intake, Sender},
};
use crate::{call::Caller, rpc::Unread};

/// The services, as one connection sees them.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    services: Services,
    peer: SocketAddr,
    guest: Arc<Guest>,
}

/// The services, and what stands before them.
#[derive(Clone, Debug)]
pub(super) struct Services {
    pub(super) routes: Routes,
    pub(super) intake: Arc<Intake>,
    pub(super) unread: Unread,
}

/// An answer's body. The stream is open until it has been sent, or nobody wants it any more.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    _open: OpenStream,
}

impl Calls {
    /// The services for the connection of `peer`.
    pub(super) fn new(services: Services, peer: SocketAddr, guest: Arc<Guest>) -> Self {
        Self { services, peer, guest }
    }
}

impl Service<Request<Incoming>> for Calls {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (mut head, body) = request.into_parts();
        let (peer, arrived) = (self.peer, Instant::now());
        let leaving = self.guest.leaving.clone();
        head.extensions.insert(Caller { peer, arrived, leaving });
        let Services { mut routes, intake, unread } = self.services.clone();
        let sender = Sender { peer: peer.ip(), arrived };
        let open = self.guest.begin();
        let path = head.uri.path_and_query().cloned();
        Box::pin(async move {
            let response = match intake.take(&head, sender, body, &unread).await {
                Ok(body) => {
                    let response = routes.call(Request::from_parts(head, body)).await?;
                    unread.look(path.as_ref(), (peer, arrived), response)
                }
                Err(refused) => refused,
            };
            Ok(response.map(|body| Answer { body, _open: open }))
        })
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
