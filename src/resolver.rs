//! Looks up the names of hosts.

use std::{
    collections::HashMap,
    fmt, io,
    net::{SocketAddr, ToSocketAddrs as _},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    thread, vec,
};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::watch;
use tower_service::Service;

/// Looks up host names, each once at a time.
///
/// The system's lookup takes a thread, and goes on when nobody waits for it any more. So all who need the same name wait for
/// the same lookup, and whoever has a resolver, such as a tenant, takes no more threads than it has names, however long its
/// name servers are silent. They are not those that the runtime has for blocking work, of which silent name servers would
/// leave none to anybody else.
#[derive(Clone)]
pub(crate) struct Resolver {
    lookup: Arc<Lookup>,
    /// Those that are going on, and some that have ended.
    lookups: Arc<Mutex<HashMap<Name, watch::Receiver<Option<Found>>>>>,
}

type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;
type Found = Result<Vec<SocketAddr>, Arc<io::Error>>;

impl Resolver {
    fn of(lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self { lookup: Arc::new(lookup), lookups: Arc::default() }
    }

    /// Joins the lookup of this name that is going on, or begins one.
    fn join(&self, name: Name) -> watch::Receiver<Option<Found>> {
        let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        // One that panics has found nothing, but its sender is gone.
        lookups.retain(|_, found| found.borrow().is_none() && found.has_changed().is_ok());
        if let Some(running) = lookups.get(&name) {
            return running.clone();
        }
        let (tell, found) = watch::channel(None);
        lookups.insert(name.clone(), found.clone());
        let (lookup, teller) = (self.lookup.clone(), tell.clone());
        let run = move || teller.send_replace(Some(lookup(name.as_str()).map_err(Arc::new)));
        if let Err(error) = thread::Builder::new().name("lookup".to_owned()).spawn(run) {
            tell.send_replace(Some(Err(Arc::new(error))));
        }
        found
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::of(|name| (name, 0).to_socket_addrs().map(Iterator::collect))
    }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = Arc<io::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let mut found = self.join(name);
        Box::pin(async move {
            let ended = found.wait_for(Option::is_some).await;
            match ended.ok().and_then(|found| found.clone()) {
                Some(found) => found.map(Vec::into_iter),
                // It has panicked.
                None => Err(Arc::new(io::Error::other("the name was not looked up to the end"))),
            }
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// Runs this while all threads hang that its runtime has for blocking work.
#[cfg(test)]
pub(crate) fn without_threads_for_blocking_work<T>(work: impl Future<Output = T>) -> T {
    use tokio::{runtime, time::timeout};
    let mut runtime = runtime::Builder::new_current_thread();
    let runtime = runtime.max_blocking_threads(1).enable_all().build().expect("a runtime");
    // Dropped before the runtime, which waits for its threads.
    let (_end, ended) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || ended.recv());
    let in_time = async { timeout(std::time::Duration::from_secs(20), work).await };
    runtime.block_on(in_time).expect("it needs none of them")
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    };

    use super::*;

    const GONE: &str = "gone.example";

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    async fn found(resolver: &Resolver, host: &str) -> Option<Vec<SocketAddr>> {
        resolver.clone().call(name(host)).await.ok().map(Iterator::collect)
    }

    #[tokio::test]
    async fn a_name_that_hangs_takes_one_thread_however_many_need_it() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let (begun, begins) = mpsc::channel();
        let (answer, answers) = mpsc::channel::<io::Result<Vec<SocketAddr>>>();
        let answers = Mutex::new(answers);
        let resolver = Resolver::of(move |host| {
            if host != GONE {
                return Ok(vec![address]);
            }
            begun.send(()).expect("somebody counts");
            answers.lock().expect("not poisoned").recv().expect("an answer")
        });

        drop(resolver.clone().call(name(GONE)));
        let waiting: Vec<_> = (0..1000).map(|_| resolver.clone().call(name(GONE))).collect();
        assert_eq!(found(&resolver, "here.example").await, Some(vec![address]));
        answer.send(Err(io::Error::other("no name server"))).expect("it waits");
        for waiting in waiting {
            assert_eq!(waiting.await.expect_err("a failure").to_string(), "no name server");
        }
        assert_eq!(begins.try_iter().count(), 1);

        answer.send(Ok(vec![address])).expect("kept");
        assert_eq!(found(&resolver, GONE).await, Some(vec![address]), "a new lookup");
        assert_eq!(begins.try_iter().count(), 1);
    }

    #[test]
    fn a_name_is_looked_up_although_all_threads_for_blocking_work_hang() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let resolver = Resolver::of(move |_| Ok(vec![address]));
        let addresses = without_threads_for_blocking_work(found(&resolver, GONE));
        assert_eq!(addresses, Some(vec![address]));
    }

    #[tokio::test]
    async fn a_lookup_that_panics_finds_nothing_and_the_next_one_begins_anew() {
        let (address, is_again) = (SocketAddr::from(([127, 0, 0, 1], 0)), AtomicBool::default());
        let resolver = Resolver::of(move |_| {
            assert!(is_again.swap(true, Relaxed), "the first one panics");
            Ok(vec![address])
        });
        assert_eq!(found(&resolver, GONE).await, None);
        assert_eq!(found(&resolver, GONE).await, Some(vec![address]));
    }
}
