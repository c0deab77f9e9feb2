//! The lines of a head.

/// The headers that the bridge, its doctor or hyper uses.
const USED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "guid",
    "json-type",
    "keep-alive",
    "location",
    "retry-after",
    "set-cookie",
    "set-guid",
    "transfer-encoding",
];

/// Whether a line continues the one before it.
pub(super) fn is_fold(line: &[u8]) -> bool {
    matches!(line, [b' ' | b'\t', ..])
}

/// Whether this may be the beginning of a status line.
pub(super) fn is_status_line(line: &[u8]) -> bool {
    line.iter().zip(b"HTTP/").all(|(byte, expected)| byte.eq_ignore_ascii_case(expected))
}

/// Writes a status line as hyper reads it: in capitals, with one space before the status. Returns what
/// comes after the version.
pub(super) fn mend_status_line(line: &mut [u8]) -> Option<&[u8]> {
    if !is_status_line(line) {
        return None;
    }
    let (version, rest) = line.split_at_mut_checked("HTTP/1.1".len())?;
    version.make_ascii_uppercase();
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    let end = spaces + 3;
    let has_status = rest.get(spaces..end)?.iter().all(u8::is_ascii_digit);
    if spaces > 1 && has_status {
        // The spaces come after the status instead.
        rest.copy_within(spaces..end, 1);
        rest.get_mut(4..end)?.fill(b' ');
    }
    rest.get(1..)
}

/// Whether this is a status between 100 and 199, but not 101, which is the last answer on a connection.
pub(super) fn is_interim(status: &[u8]) -> bool {
    matches!(status, [b'1', tens, units, ..]
        if tens.is_ascii_digit() && units.is_ascii_digit() && status.get(..3) != Some(b"101"))
}

/// The name of a header.
fn name(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii_end()
}

/// Whether the header is one of those that are used.
pub(super) fn is_used(line: &[u8]) -> bool {
    USED.iter().any(|used| name(line).eq_ignore_ascii_case(used.as_bytes()))
}

/// Whether a line says that the body has no transfer coding, as old servers do. hyper would take the
/// body to end with the connection, whatever its length.
pub(super) fn is_no_transfer_coding(line: &[u8]) -> bool {
    matches!(line, [b't' | b'T', ..])
        && name(line).eq_ignore_ascii_case(b"transfer-encoding")
        && line
            .splitn(2, |byte| *byte == b':')
            .nth(1)
            .is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"identity"))
}
