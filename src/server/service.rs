use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    service::Service,
};
use tokio::time::{Instant, Sleep, sleep};
use tonic::{body::Body, service::Routes};
use tower_service::Service as _;

use super::house::{Guest, OpenStream};
use crate::call::Caller;

/// The services, as one connection sees them.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    routes: Routes,
    peer: SocketAddr,
    guest: Arc<Guest>,
}

/// An answer's body. The stream is open until it has been sent, or nobody wants it any more.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    _open: OpenStream,
}

/// A request's body whose sender must not stop in the middle: a call holds memory and a stream,
/// and its deadline only starts to count for us once the message is there.
struct PromptBody {
    body: Incoming,
    /// Made when the sender is waited for the first time; most bodies come with their head.
    idle: Option<Pin<Box<Sleep>>>,
}

/// Between two pieces of a request; also what an idle reflection stream is given.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

impl Calls {
    /// The services for the connection of `peer`.
    pub(super) fn new(routes: Routes, peer: SocketAddr, guest: Arc<Guest>) -> Self {
        Self { routes, peer, guest }
    }
}

impl Service<Request<Incoming>> for Calls {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut request = request.map(|body| PromptBody { body, idle: None });
        let (peer, leaving) = (self.peer, self.guest.leaving.clone());
        request.extensions_mut().insert(Caller { peer, arrived: Instant::now(), leaving });
        let mut routes = self.routes.clone();
        let open = self.guest.begin();
        Box::pin(async move {
            let response = routes.call(request).await?;
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

impl HttpBody for PromptBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.idle = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(IDLE_LIMIT)));
        match idle.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err("the request stopped in the middle".into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
