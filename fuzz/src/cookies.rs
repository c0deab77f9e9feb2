use std::collections::HashSet;

use ccgateway_bridge::session::Cookies;
use http::HeaderValue;

/// `Set-Cookie` headers of one gateway, a line each.
pub fn cookies(data: &[u8]) {
    let jar = Cookies::default();
    let lines = data.split(|&b| b == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let lines: Vec<_> = lines.collect();
    for line in &lines {
        jar.set(line, lines.first());
        check(jar.header().as_ref(), &lines);
    }

    let sent = jar.header();
    for line in &lines {
        let again = Cookies::default();
        again.set(line, None);
        again.set(line, None);
        check(again.header().as_ref(), std::slice::from_ref(line));
        if let Some(header) = again.header() {
            // What a jar of one sends back, it takes again as it is.
            again.set(&header, None);
            assert_eq!(again.header(), Some(header));
        }
    }
    let count = sent.as_ref().map_or(0, |header| pairs(header).count());
    assert_eq!(format!("{jar:?}"), format!("Cookies({count})"), "and no value");
}

fn check(sent: Option<&HeaderValue>, lines: &[HeaderValue]) {
    let Some(sent) = sent else { return };
    assert!(sent.is_sensitive());
    assert!((1..=8).contains(&pairs(sent).count()));
    let mut names = HashSet::new();
    for pair in pairs(sent) {
        let (name, _value) = pair.split_once('=').expect("name=value");
        assert!(!name.trim().is_empty() && names.insert(name), "{pair:?}");
        assert!(pair.len() <= 1024 && !pair.contains(';'));
        let came = |line: &HeaderValue| line.to_str().is_ok_and(|line| line.contains(pair));
        assert!(lines.iter().any(came), "{pair:?} was never set");
    }
}

fn pairs(header: &HeaderValue) -> impl Iterator<Item = &str> {
    header.to_str().expect("visible ASCII").split("; ")
}
