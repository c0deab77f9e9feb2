//! The settings of `store.when_away`: Redis cannot be reached, or accepts no writes, for longer than the
//! gateway keeps agents that nobody polls for.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use ccgateway_bridge::rpc::proto::watch_events_response::What;
use ccgateway_sim::{Interface, Options};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    proxy::Wire,
    support::{Centre, Replica, SCALE, eventually},
};

const AGENTS: std::ops::Range<u32> = 1001..1041;
const OUTAGE: Duration = Duration::from_secs(150 / SCALE as u64);
const WITHOUT_LEASE: &str = "ccgw_agents_polled_without_lease{";
const STORE_REFUSES: &str = "ccgw_store_state{state=\"refuses_writes\"}";
const STOPPED: &str = "ccgw_agents_polling_stopped{";
const KEPT: &str = "ccgw_sessions{tenant=\"acme\",state=\"kept\"}";

impl Centre {
    async fn redis_takes_writes(&self, does: bool) {
        let maxmemory = if does { "0" } else { "1" };
        let mut set = ::redis::cmd("CONFIG");
        set.arg("SET").arg("maxmemory").arg(maxmemory);
        let _: () = set.query_async(&mut self.redis.connection().await).await.expect("set");
    }

    /// Two replicas with agents who are polled.
    async fn two_replicas(&self) -> [Replica; 2] {
        let replicas = [self.replica(None).await, self.replica(None).await];
        for agent in AGENTS {
            replicas[agent as usize % 2].set_busy(agent).await.expect("signed in");
        }
        self.all_are_shared_out(AGENTS).await;
        replicas
    }

    /// How many of the agents the gateway has signed in.
    fn signed_in(&self) -> usize {
        AGENTS.filter(|agent| self.has([*agent])).count()
    }
}

/// The sum of a metric over replicas.
async fn sum(replicas: &[Replica], metric: &str) -> f64 {
    let mut sum = 0.0;
    for replica in replicas {
        sum += replica.metric(metric).await;
    }
    sum
}

async fn until_sum_is(replicas: &[Replica], metric: &str, expected: f64) {
    let end = Instant::now() + Duration::from_secs(60);
    while (sum(replicas, metric).await - expected).abs() > 0.1 {
        if Instant::now() >= end {
            // What happened to each agent's session tells why.
            let log = replicas.iter().flat_map(Replica::log);
            let log = log.map(|line| line.to_string()).collect::<Vec<_>>().join("\n");
            panic!("{metric} is {}, not {expected}\n{log}", sum(replicas, metric).await);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn all_say_that_redis_refuses(replicas: &[Replica]) {
    for replica in replicas {
        let ready = replica.ask("GET /readyz?verbose", "").await.1;
        assert!(ready.contains("store: refuses writes, OOM command not allowed"), "{ready}");
        assert_eq!(replica.said("Redis refuses writes"), 1);
        assert_eq!(replica.said("leases have ended"), 1);
        assert!(
            (replica.metric("ccgw_store_state{state=\"refuses_writes\"}").await - 1.0).abs() < 0.1
        );
    }
}

async fn all_say_that_it_is_over(replicas: &[Replica]) {
    for replica in replicas {
        eventually("the end to be said", || {
            replica.said("Redis refuses nothing any more") == 1
                && replica.said("the store gives leases again") == 1
        })
        .await;
        let ready = replica.ask("GET /readyz?verbose", "").await.1;
        assert!(ready.contains("store: up\n") && !ready.contains("lease"), "{ready}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_takes_no_writes_for_long_signs_no_agent_out_and_is_reported() {
    let centre = Centre::open().await;
    let replicas = centre.two_replicas().await;
    centre.redis_takes_writes(false).await;
    let end = Instant::now() + OUTAGE;
    let count = f64::from(AGENTS.end - AGENTS.start);
    until_sum_is(&replicas, WITHOUT_LEASE, count).await;
    all_say_that_redis_refuses(&replicas).await;
    sleep_until(end).await;
    assert_eq!(centre.signed_in(), AGENTS.len());
    assert_eq!(centre.gateway.violations(), Vec::<String>::new(), "each is polled by one");

    centre.redis_takes_writes(true).await;
    until_sum_is(&replicas, WITHOUT_LEASE, 0.0).await;
    all_say_that_it_is_over(&replicas).await;
    centre.all_are_polled(AGENTS).await;
    for agent in AGENTS {
        for replica in &replicas {
            replica.set_busy(agent).await.expect("as before");
        }
    }
    assert_eq!(centre.signed_in(), AGENTS.len());
    assert_eq!(centre.asked(Interface::SignIn), 0);
    assert_eq!(centre.gateway.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_stop_replicas_stop_polling_and_report_it() {
    let mut centre = Centre::open().await;
    centre.store = "when_away = \"stop\"";
    let replicas = centre.two_replicas().await;
    centre.redis_takes_writes(false).await;
    // Some may have been between two replicas in that moment, and were polled by none.
    until_sum_is(&replicas, KEPT, 0.0).await;
    assert!(sum(&replicas, STOPPED).await > 0.0);
    all_say_that_redis_refuses(&replicas).await;
    eventually("the gateway to sign them out", || centre.signed_in() == 0).await;

    centre.redis_takes_writes(true).await;
    until_sum_is(&replicas, STOPPED, 0.0).await;
    all_say_that_it_is_over(&replicas).await;
    eventually("all to be signed in again", || centre.signed_in() == AGENTS.len()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_lost_while_redis_takes_no_writes_is_reported_and_made_again_afterwards() {
    let centre = Centre::open().await;
    let replicas = centre.two_replicas().await;
    centre.redis_takes_writes(false).await;
    let count = f64::from(AGENTS.end - AGENTS.start);
    until_sum_is(&replicas, WITHOUT_LEASE, count).await;
    let lost = AGENTS.start;
    centre.gateway.sign_out(lost);
    until_sum_is(&replicas, WITHOUT_LEASE, count - 1.0).await;
    let id = lost.to_string();
    let is_told = |line: &serde_json::Value| {
        line["message"] == "session" && line["to"] == "lost" && line["ccgw.agent.id"] == id.as_str()
    };
    let told = || replicas.iter().map(|replica| replica.lines(is_told)).sum::<usize>();
    eventually("the loss to be logged", || told() > 0).await;
    assert_eq!(centre.signed_in(), AGENTS.len() - 1);

    centre.redis_takes_writes(true).await;
    eventually("the agent to be signed in again", || centre.signed_in() == AGENTS.len()).await;
    centre.all_are_polled(AGENTS).await;
    assert_eq!(told(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_of_a_replica_killed_while_redis_takes_no_writes_are_kept_by_another() {
    let centre = Centre::open().await;
    let [mut killed, stays] = centre.two_replicas().await;
    centre.redis_takes_writes(false).await;
    let replicas = [stays];
    until_sum_is(&replicas, STORE_REFUSES, 1.0).await;
    killed.kill().await;
    until_sum_is(&replicas, KEPT, f64::from(AGENTS.end - AGENTS.start)).await;
    // For longer than the gateway keeps agents whom nobody polls.
    sleep(OUTAGE).await;
    assert_eq!(centre.signed_in(), AGENTS.len());
    assert_eq!(centre.asked(Interface::SignIn), 0);
    assert_eq!(centre.gateway.violations(), Vec::<String>::new(), "each is polled by one");
    for agent in AGENTS {
        replicas[0].set_busy(agent).await.expect("as before");
    }
}

/// Polls by what was answered.
fn polls(centre: &Centre) -> HashMap<String, usize> {
    let mut polls = HashMap::new();
    for entry in centre.gateway.journal() {
        if let (Some(Interface::Poll), Some(answer)) = (entry.interface, entry.answer) {
            *polls.entry(answer.retcode.unwrap_or_default()).or_default() += 1;
        }
    }
    polls
}

/// Who was told of an event, as replica and agent.
type Told = Arc<Mutex<Vec<(usize, String)>>>;

async fn note_events(place: usize, replica: &Replica, told: &Told) {
    let (mut stream, told) = (replica.watch(&[], None).await.into_stream(), told.clone());
    tokio::spawn(async move {
        while let Ok(Some(message)) = stream.message().await {
            if let Some(What::GatewayEvent(event)) = message.what
                && event.type_name == "AgentState_SetNotReady_Success"
            {
                told.lock().expect("no test fails with it").push((place, message.agent_id));
            }
        }
    });
}

/// Redis is cut off from a replica, which polls on, and the other one takes its agents over; gives
/// what polls were answered meanwhile, and who told of one event of each agent.
async fn split(
    change: impl FnOnce(&mut Options),
) -> (HashMap<String, usize>, Vec<(usize, String)>) {
    let centre = Centre::open_with(change).await;
    let wire = Wire::to(centre.redis.port()).await;
    let replicas = [centre.replica_with(None, &wire.url()).await, centre.replica(None).await];
    for agent in AGENTS {
        replicas[agent as usize % 2].set_busy(agent).await.expect("signed in");
    }
    centre.all_are_shared_out(AGENTS).await;
    wire.cut();
    let kept = "ccgw_sessions{tenant=\"acme\",state=\"kept\"}";
    until_sum_is(&replicas[1..], kept, f64::from(AGENTS.end - AGENTS.start)).await;
    let overdue = replicas[0].metric(WITHOUT_LEASE).await;
    assert!(overdue > 1.0, "{overdue}");

    centre.gateway.clear_journal();
    let told = Told::default();
    for (place, replica) in replicas.iter().enumerate() {
        note_events(place, replica, &told).await;
    }
    for agent in AGENTS {
        replicas[1].set_busy(agent).await.expect("accepted");
    }
    eventually("an event of every agent", || {
        told.lock().expect("no test fails with it").len() >= AGENTS.len()
    })
    .await;
    let answered = polls(&centre);
    // When they are together again, the one hears of what it has missed.
    let told = told.lock().expect("no test fails with it").clone();

    wire.mend();
    until_sum_is(&replicas, WITHOUT_LEASE, 0.0).await;
    until_sum_is(&replicas, kept, f64::from(AGENTS.end - AGENTS.start)).await;
    let overlaps = centre.gateway.violations().len();
    centre.all_are_polled(AGENTS).await;
    centre.all_are_polled(AGENTS).await;
    assert_eq!(centre.gateway.violations().len(), overlaps, "each is polled by one again");
    assert_eq!(centre.signed_in(), AGENTS.len());
    assert_eq!(centre.asked(Interface::SignIn) + centre.asked(Interface::ForceSignIn), 0);
    (answered, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_split_network_a_gateway_that_refuses_second_polls_loses_no_agent_and_no_event() {
    let (answered, told) = split(|options| options.refuse_repeated = true).await;
    assert!(answered.contains_key("000-007"), "{answered:?}");
    assert_eq!(told.len(), AGENTS.len(), "each event is told once");
    let agents: HashSet<&String> = told.iter().map(|(_, agent)| agent).collect();
    assert_eq!(agents.len(), AGENTS.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_split_network_a_gateway_that_takes_second_polls_gives_each_event_to_one_of_them() {
    let (answered, told) = split(|options| options.refuse_repeated = false).await;
    assert!(!answered.contains_key("000-007"), "{answered:?}");
    assert_eq!(told.len(), AGENTS.len(), "each event is told once");
    let agents: HashSet<&String> = told.iter().map(|(_, agent)| agent).collect();
    assert_eq!(agents.len(), AGENTS.len());
}
