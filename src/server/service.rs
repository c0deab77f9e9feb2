use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::request::Parts;
use hyper::{
    Request, Response,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    service::Service,
};
use tokio::time::Instant;
use tonic::{body::Body, service::Routes};
use tower_service::Service as _;

use super::{
    house::{Guest, OpenCall},
    intake::{Intake, Sender},
    send_buffers::{Chunk, Reader, SendBuffer},
};
use crate::{
    call::{CallError, Caller},
    rpc::Unread,
};

/// The services, as one connection sees them.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    services: Services,
    peer: SocketAddr,
    guest: Arc<Guest>,
    buffer: Arc<SendBuffer>,
}

/// The services, and what stands before them.
#[derive(Clone, Debug)]
pub(super) struct Services {
    pub(super) routes: Routes,
    pub(super) intake: Arc<Intake>,
    pub(super) unread: Unread,
}

/// An answer's body. Its call is under way until it has been sent, or nobody wants it any more.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    buffer: Arc<SendBuffer>,
    reader: Reader,
    _call: Option<OpenCall>,
}

/// A request on its way to its service.
struct Work {
    services: Services,
    sender: Sender,
    buffer: Arc<SendBuffer>,
}

impl Calls {
    /// The services for the connection of `peer`.
    pub(super) fn new(
        services: Services,
        peer: SocketAddr,
        guest: Arc<Guest>,
        buffer: Arc<SendBuffer>,
    ) -> Self {
        Self { services, peer, guest, buffer }
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
        let work = Work {
            services: self.services.clone(),
            sender: Sender { peer: peer.ip(), arrived },
            buffer: self.buffer.clone(),
        };
        if self.guest.is_closed() {
            let refused = work.services.unread.refuse(&head, &CallError::ConnectionAged);
            return Box::pin(std::future::ready(Ok(work.with(refused, Reader::Prompt, None))));
        }
        Box::pin(work.answer(head, body, self.guest.begin()))
    }
}

// === impl Work ===

impl Work {
    /// Has a service answer.
    async fn answer(
        mut self,
        head: Parts,
        body: Incoming,
        mut call: OpenCall,
    ) -> Result<Response<Answer>, Infallible> {
        let reader = reader(head.uri.path());
        let response = self.ask(head, body).await?;
        if reader == Reader::Prompt {
            call.answered();
        }
        Ok(self.with(response, reader, Some(call)))
    }

    /// Reads a request to its end and has it answered.
    async fn ask(&mut self, head: Parts, body: Incoming) -> Result<Response<Body>, Infallible> {
        let Services { routes, intake, unread, .. } = &mut self.services;
        match intake.take(&head, self.sender, body, unread).await {
            Ok(body) => routes.call(Request::from_parts(head, body)).await,
            Err(refused) => Ok(refused),
        }
    }

    fn with(
        self,
        response: Response<Body>,
        reader: Reader,
        call: Option<OpenCall>,
    ) -> Response<Answer> {
        let buffer = self.buffer;
        response.map(|body| Answer { body, buffer, reader, _call: call })
    }
}

/// What is expected of the reader of an answer. Events are read at the pace of whoever acts on them.
fn reader(path: &str) -> Reader {
    let events = path == "/ccgateway.agent.v1.AgentEvents/WatchEvents";
    if events { Reader::Slow } else { Reader::Prompt }
}

// === impl Answer ===

impl HttpBody for Answer {
    type Data = Chunk;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, tonic::Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let chunk = |bytes| Chunk::new(bytes, &self.buffer, self.reader);
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
