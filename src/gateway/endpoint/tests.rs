use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use super::*;
use crate::{
    call::{Cutoff, Stage},
    config::{ClientTls, Trust},
    gateway::{AGENT_STATUS, Command, resolver::Resolver},
    id::AgentId,
    telemetry::trace::Trace,
    tls,
};

const LONG: Duration = Duration::from_secs(60 * 60);
/// A connection is young after this time, and old after three times as long.
const STEP: Duration = Duration::from_secs(2 * 60);

/// A gateway that takes so many connections and no further ones.
struct Gateway {
    endpoint: Endpoint,
    /// The numbers of the connections that have ended.
    ended: mpsc::Receiver<usize>,
}

impl Gateway {
    /// With the thread that ends when it takes no further connections. As long as there is one, the kernel gives the port
    /// to nobody else.
    fn of(connections: usize) -> (Self, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (tell, ended) = mpsc::channel();
        let accepting = thread::spawn(move || {
            for number in 0..connections {
                let (tcp, _) = listener.accept().expect("accepted");
                let tell = tell.clone();
                thread::spawn(move || {
                    answer_all(tcp);
                    // The test may be over.
                    let _unheard = tell.send(number);
                });
            }
        });
        let any = ClientTls { trust: Trust::Anything, client: None };
        let tls = tls::client_config(&any).expect("TLS");
        let connector = Connector::new(tls, LONG, &any.trust, Resolver::default());
        let url = format!("http://{addr}/x").parse().expect("a URL");
        let endpoint = Endpoint::new(&url, connector, LONG).expect("a host");
        (Self { endpoint, ended }, accepting)
    }

    async fn ask(&self) {
        let command = Command::plain(&AGENT_STATUS);
        let request = Request {
            command: &command,
            agent: AgentId::lowest(&(1..=1)),
            session: None,
            body: None,
            stage: Stage::Answer,
            trace: Trace::default(),
        };
        let mut caller_wait = CallerWait::of_bridge(Cutoff::default());
        let untouched = Untouched::at_the_start();
        let asked = self.endpoint.exchange(&request, LONG, &mut caller_wait, untouched).await;
        assert!(asked.is_ok_and(|reply| reply.is_accepted()));
    }

    /// Asks until the first connection is old, often enough that it is never idle for long.
    async fn ask_until_it_is_old(&self) {
        for _ in 0..3 {
            tokio::time::pause();
            tokio::time::advance(STEP).await;
            tokio::time::resume();
            self.ask().await;
        }
    }
}

fn answer_all(mut tcp: TcpStream) {
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    while let Ok(read @ 1..) = tcp.read(&mut buffer) {
        head.extend_from_slice(&buffer[..read]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"retcode\":\"0\"}";
            tcp.write_all(answer).expect("written");
        }
    }
}

/// Otherwise a gateway that moves to another address by DNS would never be followed by a busy bridge.
#[tokio::test]
async fn an_old_connection_is_replaced_by_a_new_one_however_busy_it_is() {
    let (gateway, _accepting) = Gateway::of(2);
    gateway.ask().await;
    gateway.ask_until_it_is_old().await;
    // Its sender is dropped, and the task that drives it has to run to close it.
    let ended = tokio::task::spawn_blocking(move || gateway.ended.recv());
    assert_eq!(ended.await.expect("no panic"), Ok(0));
}

/// It would look as if the address were dead, and all calls would go to another one.
#[tokio::test]
async fn an_old_connection_goes_on_where_no_new_one_can_be_opened() {
    let (gateway, accepting) = Gateway::of(1);
    gateway.ask().await;
    accepting.join().expect("it takes no further ones");
    gateway.ask_until_it_is_old().await;
    gateway.ask_until_it_is_old().await;
}
