//! A tenant whose gateway is good, beside five whose gateways are dead.

use std::time::Duration;

use ccgateway_sim::{Fault, Misbehaviour, Simulator};
use tokio::net::TcpSocket;

use crate::site::{Caller, Failure, bridge, failed, lasting, percentiles, plain};

const RATE: f64 = 300.0;
const DEADLINE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 7;
const DEAD: [&str; 5] = ["hanging", "frozen", "refusing", "hole", "broken"];

pub(crate) async fn run() -> Result<(), Failure> {
    let mut gateways = Vec::new();
    for _ in 0..4 {
        gateways.push(Simulator::start(plain()).await?);
    }
    // Bound and never listening: refuses. Listening and never accepting, with a full queue: swallows.
    let [refusing, hole] = [TcpSocket::new_v4()?, TcpSocket::new_v4()?];
    refusing.bind(([127, 0, 0, 1], 0).into())?;
    hole.bind(([127, 0, 0, 1], 0).into())?;
    let refusing_url = format!("http://{}", refusing.local_addr()?);
    let hole = hole.listen(1)?;
    let hole_url = format!("http://{}", hole.local_addr()?);
    let urls: Vec<_> = gateways.iter().map(Simulator::base_url).collect();
    let [good, hanging, frozen, broken] = &urls[..] else { return Err("four".into()) };
    let settings = [
        ("TENANTS__GOOD__BASE_URLS", &**good),
        ("TENANTS__HANGING__BASE_URLS", &**hanging),
        ("TENANTS__FROZEN__BASE_URLS", &**frozen),
        ("TENANTS__BROKEN__BASE_URLS", &**broken),
        ("TENANTS__REFUSING__BASE_URLS", &*refusing_url),
        ("TENANTS__HOLE__BASE_URLS", &*hole_url),
    ];
    let keep = ["GOOD", "HANGING", "FROZEN", "BROKEN", "REFUSING", "HOLE"]
        .map(|tenant| (format!("TENANTS__{tenant}__KEEP__ENABLED"), "false"));
    let keep = keep.iter().map(|(key, value)| (&**key, *value));
    let settings: Vec<_> = settings.into_iter().chain(keep).collect();
    let bridge = bridge(&settings).await?;
    let caller = Caller::of(&bridge, 1001..1501, Some("good"))?;
    let [of_good, of_hanging, of_frozen, of_broken] = &gateways[..] else {
        return Err("four".into());
    };
    caller.register(of_good).await?;
    let mut neighbours = Vec::new();
    for tenant in DEAD {
        let neighbour = Caller::of(&bridge, 1001..1501, Some(tenant))?;
        neighbour.register(of_hanging).await?;
        neighbours.push(neighbour);
    }
    of_hanging.misbehave(Misbehaviour::always(Fault::Hang));
    of_broken.misbehave(Misbehaviour::always(Fault::CutBeforeAnswer));
    of_frozen.freeze();

    // In turns, since a machine is not always as fast.
    let (mut alone, mut beside, mut lost) = (Vec::new(), Vec::new(), 0);
    let lasts = lasting(3.0);
    caller.call(RATE, lasts, DEADLINE).await;
    for _ in 0..ROUNDS {
        alone.extend(caller.call(RATE, lasts, DEADLINE).await);
        let dead = neighbours.iter().map(|neighbour| neighbour.call(RATE, lasts, DEADLINE));
        let dead = futures_util::future::join_all(dead);
        let (healthy, dead) = tokio::join!(caller.call(RATE, lasts, DEADLINE), dead);
        beside.extend(healthy);
        lost += dead.iter().map(|ended| failed(ended)).sum::<usize>();
    }
    let ([_, before], [_, after]) = (percentiles(&alone), percentiles(&beside));
    println!(
        "p99 alone {before:.2} ms, beside five dead tenants {after:.2} ms: {:.2} (goal: 1.2)",
        after / before
    );
    println!(
        "failed {} of {} (goal 0); of the dead tenants' {lost}",
        failed(&beside),
        beside.len()
    );
    of_frozen.thaw();
    drop(hole);
    for gateway in &gateways {
        gateway.stop().await;
    }
    Ok(())
}
