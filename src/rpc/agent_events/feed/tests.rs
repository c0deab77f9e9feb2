use std::{num::NonZeroUsize, sync::Arc};

use super::*;
use crate::{
    call::{Obstacle, Unidentified},
    config,
    event::{Agents, Events, SessionChange, What},
    id::{AgentId, DEFAULT_AGENT_IDS},
    rpc::proto::watch_events_response::What as Wire,
    session::SessionState,
};

fn agent(id: u32) -> AgentId {
    AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).unwrap()
}

fn events() -> Arc<Events> {
    let (kept, kept_bytes) = (NonZeroUsize::new(8).unwrap(), NonZeroUsize::new(1 << 20).unwrap());
    Arc::new(Events::new(config::Events { kept, kept_bytes, watches: kept }))
}

fn publish(events: &Events, id: u32) {
    let change = SessionChange { state: SessionState::Kept, cause: "".into() };
    events.publish(agent(id), What::Session(change), Instant::now());
}

/// A feed of agent 101 whose first message has been read.
async fn begun(events: &Arc<Events>, last_report: Option<Instant>) -> Feed {
    let mut feed = Feed::new(events.watch(Agents::These([agent(101)].into()), None), last_report);
    let begin = feed.next().await;
    assert_eq!((begin.sequence, is_progress(&begin)), (events.newest(), false));
    feed
}

fn aged() -> CallError {
    CallError::unasked(Obstacle::ConnectionAged)
}

fn is_progress(message: &WatchEventsResponse) -> bool {
    matches!(message.what, Some(Wire::Progress(_)))
}

#[tokio::test(start_paused = true)]
async fn a_watcher_of_a_quiet_agent_is_told_twice_a_minute_how_far_it_has_come() {
    let events = events();
    let mut feed = begun(&events, None).await;
    for round in 1..=3 {
        publish(&events, 102);
        let began = Instant::now();
        let message = feed.next().await;
        assert!(is_progress(&message), "{message:?}");
        assert_eq!(message.sequence, events.newest(), "round {round}");
        assert_eq!(began.elapsed().as_secs(), REPORT_EVERY.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_has_moved_nothing_is_reported() {
    let events = events();
    let mut feed = begun(&events, None).await;
    let began = Instant::now();
    let publishing = async {
        tokio::time::sleep(10 * REPORT_EVERY).await;
        publish(&events, 101);
    };
    let (message, ()) = tokio::join!(feed.next(), publishing);
    assert!(matches!(message.what, Some(Wire::SessionChange(_))), "{message:?}");
    assert!(began.elapsed() >= 10 * REPORT_EVERY);
    feed.close(&aged());
    assert!(feed.pop().is_none(), "the caller knows all there is");
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_a_deadline_hears_the_last_report_in_time() {
    let events = events();
    let last = Instant::now() + Duration::from_secs(7);
    let mut feed = begun(&events, Some(last)).await;
    publish(&events, 102);
    let message = feed.next().await;
    assert_eq!((is_progress(&message), message.sequence), (true, events.newest()));
    assert!(Instant::now() >= last && last.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_feed_that_is_closed_tells_what_is_there_and_then_where_it_is() {
    let events = events();
    let mut feed = begun(&events, None).await;
    for id in [101, 102, 103] {
        publish(&events, id);
    }
    feed.close(&aged());
    let newest = events.newest();
    let told = feed.pop().expect("the agent's own");
    assert_eq!((told.agent_id.as_str(), told.sequence), ("101", newest - 2));
    let told = feed.pop().expect("a report");
    assert_eq!((is_progress(&told), told.sequence), (true, newest));
    assert!(feed.pop().is_none());
}

#[tokio::test]
async fn whoever_may_watch_no_more_is_told_nothing_more() {
    for why in
        [Obstacle::CallerNotAllowed, Obstacle::CallerUnknown(Unidentified::CertificateExpired)]
    {
        let events = events();
        let mut feed = begun(&events, None).await;
        publish(&events, 101);
        publish(&events, 101);
        let told = feed.next().await;
        assert_eq!(told.sequence, events.newest() - 1);
        publish(&events, 101);
        feed.close(&CallError::unasked(why));
        assert!(feed.pop().is_none());
    }
}
