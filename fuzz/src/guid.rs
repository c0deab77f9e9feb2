use ccgateway_bridge::session::Guid;

/// A Guid as an owner hands it in, or as a gateway's header names it.
pub fn guid(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(guid) = Guid::parse(text) else { return };

    let header = guid.header();
    assert!(header.is_sensitive(), "or HTTP/2 and logs would keep it");
    let value = header.to_str().expect("visible ASCII");
    assert!(text.contains(value));
    assert!((1..=256).contains(&value.len()));
    assert!(!value.contains(|c: char| !c.is_ascii_graphic() || "=;,\"'".contains(c)));

    for same in [value.to_owned(), format!("JSESSIONID={value}; Path=/")] {
        assert_eq!(Guid::parse(&same).as_ref(), Ok(&guid));
    }

    // All that is ever shown of it.
    let node = guid.node().unwrap_or_default();
    assert!(node.len() <= 32 && value.ends_with(node));
    assert_eq!(format!("{guid:?}"), format!("Guid(….{node})"));
}
