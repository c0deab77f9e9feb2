//! What an HTTP status says about a request if there is no envelope. A proxy or web server may have
//! set it.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{DATE, RETRY_AFTER},
};

use crate::call::CallError;

/// The longest wait that is taken from `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5 * 60);

/// The error for a status other than 2xx without an envelope.
pub(super) fn status_alone(status: StatusCode, retry_after: Option<Duration>) -> CallError {
    let status = status.as_u16();
    // By the definitions of 421, 425 and 429, the request was not carried out. A 503 alone does not
    // say so: Envoy sends it when the gateway has closed the connection, whatever it had done
    // before. A 503 with `Retry-After` was meant for the client. A 408 does not say so either:
    // older versions of Envoy send it when the gateway is silent for too long.
    match (status, retry_after) {
        (421 | 425 | 429, _) | (503, Some(_)) => CallError::GatewayBusy { status, retry_after },
        _ => CallError::HttpStatus { status },
    }
}

/// Whether a proxy says by this status that the gateway has let the proxy's own time limit pass, or may say so.
pub fn is_of_time_limit(status: u16) -> bool {
    // 524 is the same in the words of one vendor, and 408 in those of older versions of Envoy.
    matches!(status, 408 | 504 | 524)
}

/// When the request may be tried again, up to [`RETRY_AFTER_MAX`].
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let read = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let text = read(RETRY_AFTER)?;
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let delay = if digits {
        // A number that does not fit is larger than the limit.
        text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        // By the clock of whoever sets it, which may differ from this machine's.
        let now = read(DATE).and_then(|date| httpdate::parse_http_date(date).ok());
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(now.unwrap_or_else(SystemTime::now)).unwrap_or_default()
    };
    Some(delay.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_wait_that_is_asked_for_is_read_in_both_forms_and_bounded() {
        let read = |text: &str| {
            let pair = (RETRY_AFTER, HeaderValue::from_str(text).expect("a value"));
            retry_after(&HeaderMap::from_iter([pair]))
        };
        for (text, expected) in [
            ("7", Some(Duration::from_secs(7))),
            (" 0 ", Some(Duration::ZERO)),
            ("31536000", Some(RETRY_AFTER_MAX)),
            ("99999999999999999999999", Some(RETRY_AFTER_MAX)),
            ("Fri, 01 Jan 1999 00:00:00 GMT", Some(Duration::ZERO)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(RETRY_AFTER_MAX)),
            ("", None),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_date_to_come_back_at_is_by_the_clock_of_whoever_sets_it() {
        for (now, expected) in [
            ("Fri, 01 Jan 1999 00:00:00 GMT", Some(Duration::from_secs(30))),
            ("Fri, 01 Jan 1999 00:00:40 GMT", Some(Duration::ZERO)),
            ("today", Some(Duration::ZERO)),
        ] {
            let pairs = [(RETRY_AFTER, "Fri, 01 Jan 1999 00:00:30 GMT"), (DATE, now)];
            let pairs = pairs.map(|(name, text)| (name, HeaderValue::from_static(text)));
            assert_eq!(retry_after(&HeaderMap::from_iter(pairs)), expected, "{now}");
        }
    }

    #[test]
    fn only_statuses_that_say_so_mean_that_nothing_was_done() {
        let wait = Some(Duration::from_secs(1));
        for status in 300..600 {
            let status = StatusCode::from_u16(status).expect("a status");
            for retry_after in [None, wait] {
                let busy = match status.as_u16() {
                    421 | 425 | 429 => true,
                    503 => retry_after.is_some(),
                    _ => false,
                };
                let error = status_alone(status, retry_after);
                assert_eq!(matches!(error, CallError::GatewayBusy { .. }), busy, "{error:?}");
            }
        }
    }
}
