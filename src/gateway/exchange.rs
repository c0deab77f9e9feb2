//! One request over a connection, and its answer.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    io::AsyncReadExt as _,
    task::unconstrained,
    time::{Instant, timeout_at},
};

use super::{
    answer::{Answer, End},
    connection::Connection,
    outgoing::Outgoing,
    reply::Reply,
    transport_cause::root_cause,
    transport_failure::Failure,
};

/// A request that has begun to be written, and what has come of its answer. Dropping it closes the connection.
pub(super) struct Exchange {
    connection: Connection,
    outgoing: Outgoing,
    answer: Answer,
    sent: Instant,
    /// Whether the connection has failed, and can carry nothing more.
    has_failed: bool,
}

impl Exchange {
    /// Begins over a connection that can carry the request, and writes it as far as the kernel takes it. At once, whatever
    /// else the task has done: tokio could put it off, and the gateway close the connection meanwhile, or send what is no
    /// answer.
    pub(super) fn begin(connection: Connection, outgoing: Outgoing) -> Self {
        let (answer, sent) = (Answer::up_to(outgoing.answer_limit()), Instant::now());
        let mut begun = Self { connection, outgoing, answer, sent, has_failed: false };
        let writing = poll_fn(|context| begun.poll_write(context));
        let _written = unconstrained(writing).now_or_never();
        begun
    }

    /// When the request began to be written.
    pub(super) fn sent(&self) -> Instant {
        self.sent
    }

    /// Writes the request and reads its answer. If this is dropped, another call goes on.
    pub(super) async fn run(&mut self) -> End {
        loop {
            match poll_fn(|context| self.poll_read(context)).await {
                Ok(0) => return self.answer.closed(),
                Ok(_) => {
                    if let Some(end) = self.answer.advance() {
                        return end;
                    }
                }
                Err(error) => return self.end_after(&root_cause(&error)),
            }
        }
    }

    /// The same, for as long as this after the request began to be written.
    pub(super) async fn run_for(&mut self, limit: Duration) -> End {
        timeout_at(self.sent + limit, self.run()).await.unwrap_or(End::Late(limit))
    }

    /// How the answer ends after its connection has failed for this cause. TLS fails before it gives away what has come
    /// together with what it fails for.
    fn end_after(&mut self, cause: &str) -> End {
        self.has_failed = true;
        // Nobody waits for what may come later.
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Ok(1..)) = self.poll_answer(&mut context) {
            if let Some(end) = self.answer.advance() {
                return end;
            }
        }
        self.answer.cut(cause)
    }

    /// Writes what is left of the request, and reads a part of the answer. In this order, since what has come before
    /// anything was written is no answer to it.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let written = self.poll_write(context);
        match (self.poll_answer(context), written) {
            (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            // A gateway may answer, and close the connection, before it has read the whole request.
            (read, _) => read,
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.poll_write(self.connection.wire.stream(), context)
    }

    /// Reads a part of the answer.
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let stream = self.connection.wire.stream();
        pin!(stream.read_buf(self.answer.room())).poll(context)
    }

    /// What came of the request, whose answer has ended in this way. The connection is given back if it can carry another
    /// request, and closed otherwise.
    pub(super) fn finish(self, end: End) -> Result<(Reply, Option<Connection>), Failure> {
        let Self { connection, outgoing, answer, sent, has_failed } = self;
        let may_go_on = outgoing.is_done() && !has_failed;
        let version = answer.keeps_open(&end).filter(|_| may_go_on);
        if let Some(mut reply) = answer.into_reply(&end) {
            let answered = Instant::now();
            reply.exchanged = Some([sent, answered]);
            let next = version
                .and_then(|version| connection.after_answer(version, reply.keep_alive, answered));
            return Ok((reply, next));
        }
        match end {
            End::Late(limit) => {
                let limit = humantime::format_duration(limit);
                Err(Failure::Late(format!("nothing within {limit}"), connection.close()))
            }
            End::Cut(cause) => Err(Failure::Sent(cause)),
            // Both have a reply.
            End::Whole | End::TooLong => Err(Failure::Sent("the answer was cut".into())),
        }
    }
}
