//! How long a cookie lasts, by the attributes of its `Set-Cookie` header (RFC 6265, section 5).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a cookie lasts from now on. Zero if it has expired, and `None` if it lasts as long as the
/// session. `Max-Age` takes precedence over `Expires`, the last of each over others, and one that cannot
/// be read is ignored. `now` is the time by the clock of whoever sets the cookie; without it, this
/// machine's clock has to do.
pub(super) fn lifetime(attributes: &str, now: Option<&str>) -> Option<Duration> {
    let (mut max_age, mut expires) = (None, None);
    for (name, value) in attributes.split(';').filter_map(|attribute| attribute.split_once('=')) {
        let (name, value) = (name.trim(), value.trim().trim_matches('"'));
        if name.eq_ignore_ascii_case("max-age") {
            max_age = seconds(value).or(max_age);
        } else if name.eq_ignore_ascii_case("expires") {
            expires = date(value).or(expires);
        }
    }
    let now = || now.and_then(date).unwrap_or_else(SystemTime::now);
    max_age.or_else(|| Some(expires?.duration_since(now()).unwrap_or_default()))
}

fn seconds(text: &str) -> Option<Duration> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = if text.len() == digits.len() { digits.parse().unwrap_or(u64::MAX) } else { 0 };
    Some(Duration::from_secs(seconds))
}

/// Reads a date in any of the ways in which servers write it, such as `Thu, 01-Jan-1970 00:00:10 GMT`.
/// One before 1970 counts as 1970.
fn date(text: &str) -> Option<SystemTime> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(|c: char| !c.is_ascii_alphanumeric() && c != ':') {
        if time.is_none() && token.contains(':') {
            time = Some(time_of_day(token)?);
        } else if day.is_none() && (1..=2).contains(&token.len()) && number(token).is_some() {
            day = number(token);
        } else if month.is_none() && number(token).is_none() {
            month = month_number(token);
        } else if year.is_none() && (2..=4).contains(&token.len()) {
            year = number(token);
        }
    }
    let (day, month) = (day.filter(|day| (1..=31).contains(day))?, month?);
    let year = match year? {
        short @ 0..70 => short + 2000,
        short @ 70..100 => short + 1900,
        year => year,
    };
    let days = Duration::from_secs(days_since_1970(year, month, day) * 24 * 60 * 60);
    UNIX_EPOCH.checked_add(days + time?)
}

fn number(token: &str) -> Option<u64> {
    let is_number = token.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| token.parse().ok()).flatten()
}

fn time_of_day(token: &str) -> Option<Duration> {
    let mut parts = token.split(':').map(number);
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let is_valid = hours < 24 && minutes < 60 && seconds < 60;
    is_valid.then(|| Duration::from_secs((hours * 60 + minutes) * 60 + seconds))
}

/// The number of a month, 1 to 12, by the first three letters of its name.
fn month_number(token: &str) -> Option<u64> {
    const MONTHS: &str = "janfebmaraprmayjunjulaugsepoctnovdec";
    let name = token.get(..3)?.to_ascii_lowercase();
    let at = MONTHS.find(&name).filter(|at| at % 3 == 0)?;
    u64::try_from(at / 3 + 1).ok()
}

/// The days from the beginning of 1970 to a date of the Gregorian calendar; 0 if it is earlier. A year
/// begins in March here, so that the leap day is its last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year.saturating_sub(1) } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    // To the first of January 1970 from the first of March of the year 0.
    days.saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_read_as_servers_write_them() {
        let seconds = |text| date(text).map(|at| at.duration_since(UNIX_EPOCH).unwrap().as_secs());
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 01-Jan-1970 00:00:10 GMT", Some(10)),
            ("Thu, 01-Jan-70 00:01:00 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Tue, 29 Feb 2028 00:00:00 GMT", Some(1_835_395_200)),
            ("1 january 2000 0:0:0", Some(946_684_800)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799)),
            ("Mon, 01 Jan 1601 00:00:00 GMT", Some(0)),
            ("", None),
            ("0", None),
            ("never", None),
            ("-1", None),
            ("Thu, 01 Jan 1970", None),
            ("Thu, 32 Jan 1970 00:00:00 GMT", None),
            ("Thu, 01 Jan 1970 24:00:00 GMT", None),
            ("Thu, 01 Foo 1970 00:00:00 GMT", None),
        ] {
            assert_eq!(seconds(text), expected, "{text:?}");
        }
    }

    #[test]
    fn max_age_takes_precedence() {
        let past = "Expires=Thu, 01 Jan 1970 00:00:00 GMT";
        let secs = |seconds| Some(Duration::from_secs(seconds));
        for (attributes, expected) in [
            (String::new(), None),
            (" Path=/; Secure".into(), None),
            (past.into(), secs(0)),
            (format!("Max-Age=5; {past}"), secs(5)),
            (format!("{past} ; MAX-AGE = \"5\""), secs(5)),
            (format!("Max-Age=; Max-Age=+5; Max-Age=5s; {past}"), secs(0)),
            ("Max-Age=5; Max-Age=7; Max-Age=soon".into(), secs(7)),
            ("Max-Age=0".into(), secs(0)),
            ("Max-Age=-99999999999999999999".into(), secs(0)),
            ("Max-Age=99999999999999999999".into(), secs(u64::MAX)),
            ("Max-Age=-".into(), None),
        ] {
            assert_eq!(lifetime(&attributes, None), expected, "{attributes:?}");
        }
    }

    #[test]
    fn expires_is_a_time_by_the_clock_of_who_sets_it() {
        let expires = "Expires=Sun, 06 Nov 1994 08:49:37 GMT";
        let left = |now| lifetime(expires, Some(now)).map(|left| left.as_secs());
        assert_eq!(left("Sun, 06 Nov 1994 08:48:37 GMT"), Some(60));
        assert_eq!(left("Sun, 06 Nov 1994 08:50:37 GMT"), Some(0));
        assert_eq!(left("who knows"), Some(0), "by this machine's clock");
        assert_eq!(
            lifetime("Max-Age=5", Some("Sun, 06 Nov 1994 08:48:37 GMT")).unwrap().as_secs(),
            5
        );
    }

    proptest! {
        #[test]
        fn any_date_is_read_as_others_read_it(seconds in 0..253_402_300_800_u64) {
            let at = UNIX_EPOCH + Duration::from_secs(seconds);
            prop_assert_eq!(date(&httpdate::fmt_http_date(at)), Some(at));
        }

        #[test]
        fn any_text_is_read_or_ignored(text in "\\PC{0,60}", days in "[0-9:]{0,30}") {
            let _read = (lifetime(&text, Some(&days)), date(&text), date(&days));
        }
    }
}
