//! Calls for a long time, one in a hundred of them with a fault: whether memory and descriptors stay as they are. The
//! bridge is a process of its own.

use std::{collections::BTreeMap, env, fs, time::Duration};

use ccgateway_sim::{Fault, Misbehaviour, Options, Simulator};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::{
    process::Process,
    site::{Caller, Failure, failed, lasting, plain},
};

const RATE: f64 = 500.0;
const PASSWORD: &str = "soak";
const DEADLINE: Duration = Duration::from_secs(5);
const PART: f64 = 30.0;
/// Until memory is as it stays.
const WARM: f64 = 120.0;

pub(crate) async fn run() -> Result<(), Failure> {
    let seconds = env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(600.0);
    // Agents who are polled, and signed in again where a fault costs their session.
    let gateway = Options { default_password: Some(PASSWORD.into()), ..plain() };
    let gateway = Simulator::start(gateway).await?;
    let folder = TempDir::new()?;
    let bridge = start(&folder, &gateway.base_url())?;
    let (origin, channel) = (bridge.origin.clone(), bridge.channel.clone());
    let caller = Caller::at(origin, channel, 1001..1501, None);
    caller.sign_in(PASSWORD).await?;
    let faults = [
        Fault::Hang,
        Fault::CutBeforeAnswer,
        Fault::CutMidAnswer,
        Fault::Html,
        Fault::CloseAfterAnswer,
        Fault::Delay(Duration::from_millis(200)),
        Fault::Retcode { retcode: "100-009".into(), message: String::new() },
    ];
    println!("after     calls  failed  memory MiB  descriptors");
    let (begun, lasts, mut next) = (Instant::now(), lasting(seconds), faults.iter().cycle());
    let mut first = None;
    while begun.elapsed() < lasts {
        let minute = lasts.min(lasting(PART));
        let (calling, faulting) = (caller.call(RATE, minute, DEADLINE), async {
            let count = (minute.as_secs_f64() * RATE / 100.0) as usize;
            for fault in next.by_ref().take(count) {
                gateway.misbehave(Misbehaviour::once(fault.clone()));
                sleep(Duration::from_secs_f64(100.0 / RATE)).await;
            }
        });
        let (ended, ()) = tokio::join!(calling, faulting);
        let (memory, open) = (mebibytes(bridge.running.resident()?), bridge.running.descriptors()?);
        let after = begun.elapsed().as_secs_f64();
        println!(
            "{after:>4.0} s  {:>7}  {:>6}  {memory:>10.1}  {open:>11}",
            ended.len(),
            failed(&ended)
        );
        let mut reasons = BTreeMap::<_, usize>::new();
        for one in ended.iter().filter(|one| one.code != Code::Ok) {
            *reasons.entry(&*one.reason).or_default() += 1;
        }
        println!("        {reasons:?}");
        if begun.elapsed() < lasting(WARM) {
            continue;
        }
        let (since, before) = *first.get_or_insert((after, memory));
        if after > since {
            let slope = (memory - before) / (after - since) * 600.0;
            println!("        memory grows by {slope:.1} MiB in ten minutes (goal: 1)");
        }
    }
    gateway.stop().await;
    Ok(())
}

/// Starts a bridge that lets one caller make so many calls.
fn start(folder: &TempDir, gateway: &str) -> Result<Process, Failure> {
    let text = format!(
        "listeners.default.address = \"127.0.0.1:0\"\nadmin.address = \"off\"\n\
         server.connections.requests_per_second = 1000000\n\
         server.connections.resets_per_second = 1000000\n\
         [tenants.bench]\nbase_urls = \"{gateway}\"\n"
    );
    let file = folder.path().join("bridge.toml");
    fs::write(&file, text)?;
    Process::start(&file)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
