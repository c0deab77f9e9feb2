//! What is logged, and how to change it without a restart.

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::{Answer, HEAD_LIMIT, TEXT};
use crate::telemetry::log::LogControl;

/// Longest filter in bytes. Far more than anybody types.
const MAX_FILTER: usize = 1024;

/// Shows the filter that is used now.
pub(super) fn show(log: &LogControl) -> Answer {
    let view = log.view();
    let until = view.until.map(|until| format!("until: {until}\n")).unwrap_or_default();
    let (filter, configured) = (view.filter, view.configured);
    (StatusCode::OK, TEXT, format!("filter: {filter}\nconfigured: {configured}\n{until}"))
}

/// Changes the filter to the one in the request's body.
pub(super) async fn change(log: &LogControl, request: Request<Incoming>) -> Answer {
    let time = match passing(request.uri().query()) {
        Ok(time) => time,
        Err(problem) => return refused(StatusCode::BAD_REQUEST, problem),
    };
    let body = Limited::new(request.into_body(), MAX_FILTER).collect();
    let filter = match timeout(HEAD_LIMIT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            return refused(StatusCode::PAYLOAD_TOO_LARGE, "a filter has 1024 bytes at most");
        }
        Err(_) => return refused(StatusCode::REQUEST_TIMEOUT, "the filter did not come in time"),
    };
    let Ok(filter) = str::from_utf8(&filter) else {
        return refused(StatusCode::BAD_REQUEST, "the filter is not UTF-8");
    };
    match log.set(filter, time, "PUT /log") {
        Ok(()) => show(log),
        Err(error) => refused(StatusCode::BAD_REQUEST, error),
    }
}

/// How long the change is to last, if the query says so.
fn passing(query: Option<&str>) -> Result<Option<Duration>, String> {
    let Some(query) = query else { return Ok(None) };
    let time = query.strip_prefix("for=").ok_or("the query may only be for=TIME")?;
    let time = humantime::parse_duration(time).map_err(|e| format!("for: {e}; such as 10m"))?;
    Ok(Some(time))
}

fn refused(status: StatusCode, why: impl std::fmt::Display) -> Answer {
    (status, TEXT, format!("{why}\n"))
}
