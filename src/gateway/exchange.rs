//! One request over a connection, and its answer.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::AsyncReadExt as _,
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
}

impl Exchange {
    /// Of a connection that can carry the request.
    pub(super) fn new(connection: Connection, outgoing: Outgoing) -> Self {
        Self { connection, outgoing, answer: Answer::default(), sent: Instant::now() }
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
                Err(error) => return self.answer.cut(&root_cause(&error)),
            }
        }
    }

    /// The same, for as long as this after the request began to be written.
    pub(super) async fn run_for(&mut self, limit: Duration) -> End {
        timeout_at(self.sent + limit, self.run()).await.unwrap_or(End::Late(limit))
    }

    /// Writes what is left of the request, and reads a part of the answer. In this order, since what has come before
    /// anything was written is no answer to it.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let stream = self.connection.wire.stream();
        let written = self.outgoing.poll_write(stream, context);
        let read = pin!(stream.read_buf(self.answer.room())).poll(context);
        match (read, written) {
            (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            // A gateway may answer, and close the connection, before it has read the whole request.
            (read, _) => read,
        }
    }

    /// What came of the request, whose answer has ended in this way. The connection is given back if it can carry another
    /// request, and closed otherwise.
    pub(super) fn finish(self, end: End) -> Result<(Reply, Option<Connection>), Failure> {
        let Self { connection, outgoing, answer, sent } = self;
        let version = answer.keeps_open(&end).filter(|_| outgoing.is_done());
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
