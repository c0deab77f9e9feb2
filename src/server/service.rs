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
    send_buffers::{Chunk, Reader},
    streams::{Answering, Ends, StreamBody, Streams},
};
use crate::{
    call::{CallError, Caller, Leaving, Obstacle},
    rpc::Unread,
};

/// The services, as one connection sees them. A call clones this one `Arc`, whose count no other
/// connection touches.
#[derive(Clone, Debug)]
pub(super) struct Calls(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    services: Services,
    peer: SocketAddr,
    guest: Arc<Guest>,
}

/// The services, and what stands before them.
#[derive(Clone, Debug)]
pub(super) struct Services {
    pub(super) routes: Routes,
    pub(super) intake: Arc<Intake>,
    pub(super) streams: Arc<Streams>,
    pub(super) unread: Unread,
}

/// An answer's body. What it gives is counted in the connection's send buffer until it has been
/// written to the socket.
#[derive(Debug)]
pub(super) struct Answer {
    body: AnswerBody,
    connection: Arc<Connection>,
    reader: Reader,
    /// Until the message is in the send buffer. None for a stream, which has it in its [`Ends`].
    call: Option<OpenCall>,
}

#[derive(Debug)]
enum AnswerBody {
    Once(Body),
    Stream(StreamBody),
}

/// A request on its way to its service.
struct Work {
    connection: Arc<Connection>,
    arrived: Instant,
}

impl Calls {
    /// The services for the connection of `peer`.
    pub(super) fn new(services: Services, peer: SocketAddr, guest: Arc<Guest>) -> Self {
        Self(Arc::new(Connection { services, peer, guest }))
    }
}

impl Service<Request<Incoming>> for Calls {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.0.guest.heads.see();
        let (mut head, body) = request.into_parts();
        let Self(connection) = self;
        let (peer, arrived) = (connection.peer, Instant::now());
        head.extensions.insert(Caller { peer, arrived });
        let work = Work { connection: connection.clone(), arrived };
        if connection.guest.is_closed() {
            let aged = CallError::unasked(Obstacle::ConnectionAged);
            let refused = connection.services.unread.refuse(&head, &aged);
            return Box::pin(std::future::ready(Ok(work.once(refused, None))));
        }
        match Answering::of(head.uri.path()) {
            Answering::Once => Box::pin(work.answer(head, body, connection.guest.begin())),
            answering => Box::pin(work.stream(answering, head, body)),
        }
    }
}

// === impl Work ===

impl Work {
    /// Has a service answer with one message.
    async fn answer(
        self,
        head: Parts,
        body: Incoming,
        call: OpenCall,
    ) -> Result<Response<Answer>, Infallible> {
        let response = self.ask(head, body).await?;
        Ok(self.once(response, Some(call)))
    }

    /// Has a service answer with a stream.
    async fn stream(
        self,
        answering: Answering,
        mut head: Parts,
        body: Incoming,
    ) -> Result<Response<Answer>, Infallible> {
        let Connection { services, peer, guest } = &*self.connection;
        let call = answering.is_use().then(|| guest.begin());
        let Services { streams, unread, .. } = services;
        let place = match streams.enter(answering, peer.ip()) {
            Ok(place) => place,
            Err(full) => {
                let refused = unread.refuse(&head, &CallError::unasked(full));
                return Ok(self.once(refused, call));
            }
        };
        let deadline = unread.deadline(&head.headers, self.arrived);
        let events = answering == Answering::Events;
        if events {
            head.extensions.insert(Leaving(guest.leaving.clone()));
        }
        let mut response = self.ask(head, body).await?;
        let Some(place) = place.filter(|_| !response.body().is_end_stream()) else {
            return Ok(self.once(response, call));
        };
        let over = response.extensions_mut().remove();
        let ends = Ends { place, deadline, over, guest: guest.clone(), call };
        let connection = self.connection;
        let reader = if events { Reader::slow() } else { Reader::Prompt };
        Ok(response.map(|body| {
            let body = AnswerBody::Stream(ends.put_to(body));
            Answer { body, connection, reader, call: None }
        }))
    }

    /// Reads a request to its end and has it answered.
    async fn ask(&self, head: Parts, body: Incoming) -> Result<Response<Body>, Infallible> {
        let (peer, arrived) = (self.connection.peer, self.arrived);
        let Services { routes, intake, unread, .. } = &self.connection.services;
        let path = head.uri.path_and_query().cloned();
        let sender = Sender { peer: peer.ip(), arrived };
        let response = match intake.take(&head, sender, body, unread).await {
            Ok(body) => routes.clone().call(Request::from_parts(head, body)).await?,
            Err(refused) => return Ok(refused),
        };
        Ok(unread.look(path.as_ref(), (peer, arrived), response))
    }

    /// An answer that is there.
    fn once(self, response: Response<Body>, call: Option<OpenCall>) -> Response<Answer> {
        let (connection, reader) = (self.connection, Reader::Prompt);
        response.map(|body| Answer { body: AnswerBody::Once(body), connection, reader, call })
    }
}

// === impl Answer ===

impl HttpBody for Answer {
    type Data = Chunk;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, tonic::Status>>> {
        let frame = ready!(match &mut self.body {
            AnswerBody::Once(body) => Pin::new(body).poll_frame(context),
            AnswerBody::Stream(body) => Pin::new(body).poll_frame(context),
        });
        let buffer = &self.connection.guest.buffer;
        let chunk = |bytes| self.reader.chunk(bytes, buffer);
        let frame = frame.map(|frame| frame.map(|frame| frame.map_data(chunk)));
        // Only now, so that the connection does not look idle before its send buffer holds the answer.
        self.call = None;
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            AnswerBody::Once(body) => body.is_end_stream(),
            AnswerBody::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            AnswerBody::Once(body) => body.size_hint(),
            AnswerBody::Stream(body) => body.size_hint(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.reader.over(&self.connection.guest.buffer);
    }
}
