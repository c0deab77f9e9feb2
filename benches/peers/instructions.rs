//! Instructions of a warm call in user mode, by callgrind. They are the difference of two runs of a server with more
//! and with fewer calls, so start, registrations and handshakes are not in them.

use std::ffi::OsStr;

use tokio::task::spawn_blocking;

use crate::{
    Failure, callgrind,
    load::{LONG, Load, Until},
    process::PROGRAM,
    site::{Doing, Site},
};

/// So many calls at once as in the other tables.
const AT_ONCE: usize = 8;
/// The calls of the one run, and how many more the other one has.
const CALLS: [u64; 2] = [1000, 5000];

pub(crate) async fn run(site: &Site, nginx: &OsStr) -> Result<(), Failure> {
    let Some(valgrind) = callgrind::valgrind() else {
        println!("no valgrind, so none are counted");
        return Ok(());
    };
    println!("server     instructions  of nginx");
    let mut of_nginx = None;
    for doing in [None].into_iter().chain(Doing::ALL.map(Some)) {
        let [fewer, more] = CALLS;
        let mut counted = [0; 2];
        for (counted, calls) in counted.iter_mut().zip([fewer, fewer + more]) {
            *counted = Box::pin(count(site, doing, [valgrind.as_os_str(), nginx], calls)).await?;
        }
        let [before, after] = counted;
        let each = after.saturating_sub(before) / more;
        let ratio = each as f64 / *of_nginx.get_or_insert(each) as f64;
        println!("{:<9} {each:>13} {ratio:>9.2}", doing.map_or("nginx", Doing::name));
    }
    Ok(())
}

/// All instructions of a server that starts, is called so often and ends: of nginx, or of a bridge.
async fn count(
    site: &Site,
    doing: Option<Doing>,
    [valgrind, nginx]: [&OsStr; 2],
    calls: u64,
) -> Result<u64, Failure> {
    let counts = site.path().join("counts");
    let command = |program: &OsStr| callgrind::command(valgrind, &counts, program);
    let server = match doing {
        None => site.nginx(command(nginx)).await?,
        Some(doing) => site.bridge(doing, command(OsStr::new(PROGRAM))).await?,
    };
    let load = Load::connect(server.target.clone(), AT_ONCE).await?;
    load.at_once(AT_ONCE, Until { calls, time: LONG }).await?;
    drop(load);
    let mut running = server.running;
    spawn_blocking(move || running.end()).await??;
    callgrind::counted(&counts)
}
