use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, header::AUTHORIZATION, request::Parts};
use hyper::{
    Request, Response,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    service::Service,
};
use tokio::time::Instant;
use tonic::body::Body;

use super::{
    connection_slots::{OpenCall, ServedConnection},
    health,
    request_reader::{RequestReader, Sender},
    request_stream::{RefusedStatus, StreamRefusal},
    send_buffers::{Chunk, Reader},
    streams::{AnswerKind, EndConditions, StreamBody, Streams},
    token_bucket::TokenBucket,
};
use crate::{
    access::{Access, Caller, ConnectionIdentity, Identified, PeerAddress},
    call::{CallError, ConnectionEnding, Obstacle, Share, Unidentified},
    rpc::{Dispatch, ENCODING, Encoding, Method, RequestHead, Unhandled},
};

/// The services, as one connection calls them. A call clones only this `Arc`, whose count other
/// connections do not touch.
#[derive(Clone, Debug)]
pub(super) struct Calls(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    services: Services,
    peer: Peer,
    served: Arc<ServedConnection>,
    requests: TokenBucket,
}

/// The peer of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: Arc<PeerAddress>,
    pub(super) identity: ConnectionIdentity,
}

/// The services, with the checks that come before them.
#[derive(Clone, Debug)]
pub(super) struct Services {
    pub(super) dispatch: Dispatch<health::Service>,
    pub(super) request_reader: Arc<RequestReader>,
    pub(super) streams: Arc<Streams>,
    pub(super) unhandled: Unhandled,
}

/// An answer's body. Its bytes count in the connection's send buffer until they have been written
/// to the socket.
#[derive(Debug)]
pub(super) struct Answer {
    body: AnswerBody,
    connection: Arc<Connection>,
    reader: Reader,
    /// Set until the message is in the send buffer. `None` for a stream, whose call is in its
    /// [`StreamEnd`].
    call: Option<OpenCall>,
}

#[derive(Debug)]
enum AnswerBody {
    Once(Body),
    Stream(StreamBody),
}

/// A call on its way to its service.
struct PendingCall {
    connection: Arc<Connection>,
    caller: Caller,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

/// A request as it has arrived: nobody has looked at it yet.
struct NewRequest {
    head: Parts,
    body: Incoming,
    arrived: Instant,
}

/// A request whose head is good.
struct PendingRequest {
    head: Parts,
    body: Incoming,
    encoding: Encoding,
    method: Method,
}

impl Calls {
    /// The services for the connection of `peer`, which may bring so many requests.
    pub(super) fn new(
        services: Services,
        peer: Peer,
        served: Arc<ServedConnection>,
        requests: TokenBucket,
    ) -> Self {
        Self(Arc::new(Connection { services, peer, served, requests }))
    }
}

impl Service<Request<Incoming>> for Calls {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let Self(connection) = self;
        connection.served.requests.note_dispatched();
        let (head, body) = request.into_parts();
        let arrived = Instant::now();
        let request = NewRequest { head, body, arrived };
        let connection = connection.clone();
        // Before the token is verified, which would make the connection busy.
        if connection.served.refuses_calls() {
            return connection.refuse_unverified(request, Obstacle::ConnectionAged);
        }
        if !connection.requests.take(1, arrived) {
            let (share, limit) = (Share::ConnectionRequests, connection.requests.per_second());
            return connection.refuse_unverified(request, Obstacle::Overloaded { share, limit });
        }
        match connection.peer.identity.identify(&request.head.headers, arrived) {
            Identified::Known(access) => connection.dispatch(request, Ok(access)),
            Identified::Unknown(why) => connection.dispatch(request, Err(why)),
            Identified::ByToken(token) => {
                // Not idle from here on, so that it is not closed before the call is looked at.
                let open = connection.served.begin();
                Box::pin(connection.verify(token, request, open))
            }
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Passes a request on whose caller is known when its token is verified. Meanwhile it takes a place if
    /// it waits for the issuer's keys.
    async fn verify(
        self: Arc<Self>,
        token: HeaderValue,
        request: NewRequest,
        _open: OpenCall,
    ) -> Result<Response<Answer>, Infallible> {
        let Services { unhandled, request_reader, .. } = &self.services;
        let (head, arrived) = (&request.head, request.arrived);
        let answer_by = || unhandled.answer_by(&head.headers, arrived);
        let verifying = self.peer.identity.verify(&token);
        let sender = Sender { peer: self.peer.address.ip(), arrived };
        match request_reader.in_place(sender, verifying, answer_by).await {
            Ok(verified) => {
                let access = verified.unwrap_or(Err(Unidentified::KeysMissing));
                self.clone().dispatch(request, access).await
            }
            Err(full) => self.clone().refuse(request, Access::nobody().into(), full).await,
        }
    }

    /// Passes a request on to its service, unless something is wrong with it or with its caller.
    fn dispatch(
        self: Arc<Self>,
        request: NewRequest,
        access: Result<Arc<Access>, Unidentified>,
    ) -> Answering {
        let NewRequest { mut head, body, arrived } = request;
        let (access, identified) = match access {
            Ok(access) => (access, Ok(())),
            Err(why) => (Access::nobody().into(), Err(why)),
        };
        let caller = Caller { peer: self.peer.address.clone(), arrived, access };
        head.extensions.insert(caller.clone());
        // Nobody needs the token any more.
        head.headers.remove(AUTHORIZATION);
        let method = self.method(&head);
        let request = match self.services.unhandled.check(&head, method, identified) {
            Ok(RequestHead { encoding, method }) => PendingRequest { head, body, encoding, method },
            Err(error) => {
                let call = PendingCall { connection: self, caller };
                return call.refuse((&head, method), body, &error);
            }
        };
        let begun = self.clone();
        let work = PendingCall { connection: self, caller };
        match AnswerKind::of(request.method) {
            AnswerKind::Once => Box::pin(work.answer(request, begun.served.begin())),
            kind => {
                let call = kind.keeps_busy().then(|| begun.served.begin());
                Box::pin(work.stream(kind, request, call))
            }
        }
    }

    /// The method that the path of a request names. Where reflection is hidden, its methods are as unknown as
    /// any other name.
    fn method(&self, head: &Parts) -> Option<Method> {
        let is_served =
            |method: &Method| !method.is_reflection() || self.peer.identity.may_reflect();
        Method::of(head.uri.path()).filter(is_served)
    }

    /// Refuses a request whatever its token says, if it has one. The token is not verified, which would be
    /// work.
    fn refuse_unverified(self: Arc<Self>, request: NewRequest, why: Obstacle) -> Answering {
        let access = match self.peer.identity.identify(&request.head.headers, request.arrived) {
            Identified::Known(access) => access,
            Identified::Unknown(_) | Identified::ByToken(_) => Access::nobody().into(),
        };
        self.refuse(request, access, why)
    }

    /// Refuses a request of which nothing is looked at but its head.
    fn refuse(
        self: Arc<Self>,
        request: NewRequest,
        access: Arc<Access>,
        why: Obstacle,
    ) -> Answering {
        let NewRequest { mut head, body, arrived } = request;
        let caller = Caller { peer: self.peer.address.clone(), arrived, access };
        head.extensions.insert(caller.clone());
        let method = self.method(&head);
        let error = CallError::unasked(why);
        PendingCall { connection: self, caller }.refuse((&head, method), body, &error)
    }
}

// === impl PendingCall ===

impl PendingCall {
    /// Answers a request with this error, whatever its message is.
    fn refuse(
        self,
        (head, method): (&Parts, Option<Method>),
        body: Incoming,
        error: &CallError,
    ) -> Answering {
        let Services { request_reader, unhandled, .. } = &self.connection.services;
        let refused = unhandled.refuse(head, method, error);
        request_reader.discard(self.caller.peer.ip(), body);
        Box::pin(std::future::ready(Ok(self.once(refused, None))))
    }

    /// Lets a service answer with one message.
    async fn answer(
        self,
        request: PendingRequest,
        call: OpenCall,
    ) -> Result<Response<Answer>, Infallible> {
        let response = self.ask(request, &mut None).await?;
        Ok(self.once(response, Some(call)))
    }

    /// Lets a service answer with a stream.
    async fn stream(
        self,
        kind: AnswerKind,
        mut request: PendingRequest,
        call: Option<OpenCall>,
    ) -> Result<Response<Answer>, Infallible> {
        let head = &mut request.head;
        let Connection { services, peer, served, .. } = &*self.connection;
        let peer = peer.address.ip();
        let Services { streams, request_reader, unhandled, .. } = services;
        let place = match streams.enter(kind, peer) {
            Ok(place) => place,
            Err(full) => {
                let error = CallError::unasked(full);
                let refused = unhandled.refuse(head, Some(request.method), &error);
                request_reader.discard(peer, request.body);
                return Ok(self.once(refused, call));
            }
        };
        let deadline = unhandled.deadline(&head.headers, self.caller.arrived);
        let events = kind == AnswerKind::Events;
        if events {
            head.extensions.insert(ConnectionEnding(served.goaway.clone()));
        }
        let mut refused = None;
        let mut response = self.ask(request, &mut refused).await?;
        let Some(place) = place.filter(|_| !response.body().is_end_stream()) else {
            return Ok(self.once(response, call));
        };
        let over = response.extensions_mut().remove();
        let refused = refused.unwrap_or_default();
        let ends = EndConditions { place, deadline, over, refused, served: served.clone(), call };
        let connection = self.connection;
        let reader = if events { Reader::slow() } else { Reader::Prompt };
        Ok(response.map(|body| {
            let body = AnswerBody::Stream(ends.wrap(body));
            Answer { body, connection, reader, call: None }
        }))
    }

    /// Reads a request and passes it to its service. A stream that is refused while it is being
    /// answered sets `refused`.
    async fn ask(
        &self,
        request: PendingRequest,
        refused: &mut Option<RefusedStatus>,
    ) -> Result<Response<Body>, Infallible> {
        let (peer, arrived) = (self.caller.peer.ip(), self.caller.arrived);
        let Services { dispatch, request_reader, unhandled, .. } = &self.connection.services;
        let PendingRequest { mut head, body, encoding, method } = request;
        let body = if method.is_reflection() {
            let refusal = StreamRefusal::new(unhandled.clone(), &head, method);
            *refused = Some(refusal.status());
            request_reader.read_stream(encoding, peer, body, refusal)
        } else {
            let sender = Sender { peer, arrived };
            let answer_by = || unhandled.answer_by(&head.headers, arrived);
            match request_reader.read_message(encoding, sender, body, answer_by).await {
                Ok(body) => body,
                Err(why) => {
                    return Ok(unhandled.refuse(&head, Some(method), &CallError::unasked(why)));
                }
            }
        };
        if encoding != Encoding::Identity {
            // What is passed on is not compressed any more.
            head.headers.remove(ENCODING);
        }
        let response = dispatch.call(method, Request::from_parts(head, body)).await?;
        Ok(unhandled.complete(method, &self.caller, response))
    }

    /// Wraps a complete answer.
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
        let ServedConnection { buffer, requests, .. } = &*self.connection.served;
        let is_stream = matches!(self.body, AnswerBody::Stream(_));
        let chunk = |bytes: Bytes| {
            if is_stream {
                requests.note_streamed(bytes.len());
            }
            self.reader.chunk(bytes, buffer)
        };
        let frame = frame.map(|frame| frame.map(|frame| frame.map_data(chunk)));
        // Only after the bytes are in the send buffer, so that the connection never looks idle in
        // between.
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
        self.reader.over(&self.connection.served.buffer);
    }
}
