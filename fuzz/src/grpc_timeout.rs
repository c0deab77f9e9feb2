use ccgateway_bridge::rpc::fuzzing::parse_timeout;

/// A `grpc-timeout` header: it is as many nanoseconds as a plain reading finds, or it is refused.
pub fn grpc_timeout(data: &[u8]) {
    let read = parse_timeout(data).map(|timeout| timeout.as_nanos());
    assert_eq!(read, nanoseconds(data), "b\"{}\"", data.escape_ascii());
}

fn nanoseconds(data: &[u8]) -> Option<u128> {
    let text = str::from_utf8(data).ok()?;
    let units = [("H", 3_600_000), ("M", 60_000), ("S", 1_000), ("m", 1)];
    let units = units.map(|(unit, milliseconds)| (unit, milliseconds * 1_000_000));
    let mut units = units.into_iter().chain([("u", 1_000), ("n", 1)]);
    let (digits, unit) = units.find_map(|(unit, time)| Some((text.strip_suffix(unit)?, time)))?;
    let digits: Option<Vec<_>> = digits.chars().map(|digit| digit.to_digit(10)).collect();
    let digits = digits.filter(|digits| (1..=8).contains(&digits.len()))?;
    Some(digits.into_iter().fold(0, |sum, digit| 10 * sum + u128::from(digit)) * unit)
}
