use ccgateway_bridge::gateway::{BadHead, Heads};

/// What a gateway sends after a request: the first byte says in pieces of which length it comes.
pub fn heads(data: &[u8]) {
    let Some((length, bytes)) = data.split_first() else { return };
    let whole = passed(bytes, usize::MAX);
    assert_eq!(passed(bytes, usize::from(*length).max(1)), whole, "it depends on the pieces");

    let Ok(passed) = whole else { return };
    assert!(passed.len() <= bytes.len());
    // What hyper gets of the head: up to the first empty line.
    let lines = passed.split(|byte| *byte == b'\n');
    let head: Vec<_> = lines.take_while(|line| !matches!(line, [] | [b'\r'])).collect();
    let folds = head.iter().filter(|line| line.starts_with(b" ") || line.starts_with(b"\t"));
    assert!(head.len() - folds.count() <= 100, "hyper takes no more");
    // The beginning of a status line may be passed on at the end of the connection.
    let is_complete = passed.contains(&b'\n');
    let status = head.first().and_then(|line| line.strip_prefix(b"HTTP/1.1 "));
    if let Some(status) = status.filter(|_| is_complete) {
        let is_interim = matches!(status, [b'1', b'0'..=b'9', b'0'..=b'9', ..]);
        assert!(!is_interim || status.starts_with(b"101"), "an interim answer was passed on");
    }
}

fn passed(bytes: &[u8], length: usize) -> Result<Vec<u8>, BadHead> {
    let mut heads = Heads::default();
    heads.begin();
    let mut passed = Vec::new();
    for piece in bytes.chunks(length) {
        let mut piece = [heads.held(), piece].concat();
        let kept = heads.pass(&mut piece)?;
        passed.extend_from_slice(&piece[..kept]);
    }
    passed.extend_from_slice(heads.held());
    Ok(passed)
}
