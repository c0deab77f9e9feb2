use ccgateway_bridge::retcode::{Kind, Retcode};

/// A retcode as an envelope has it.
pub fn retcode(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Some(retcode) = Retcode::refusal(text) else {
        assert_eq!(text.trim(), "0", "nothing else is success");
        return;
    };

    let shown = retcode.to_string();
    assert_eq!(shown, retcode.as_str());
    assert!(shown.chars().count() <= 32 && !shown.contains(char::is_control));
    assert_ne!(text.trim(), "0");

    // What is told from a retcode is told from all that the gateway sent, never from a part.
    let documented = shown == text.trim()
        && shown.len() == 7
        && shown
            .bytes()
            .enumerate()
            .all(|(at, b)| if at == 3 { b == b'-' } else { b.is_ascii_digit() });
    assert!(documented || retcode.kind() == Kind::Unlisted, "{text:?}");
    assert!(documented || retcode.listed().is_none(), "{text:?}");
    let of_the_guid = ["000-003", "100-006", "105-005", "105-006", "105-007"];
    assert_eq!(retcode.kind().blames_guid(), documented && of_the_guid.contains(&&*shown));
    if let Some(row) = retcode.listed() {
        assert_eq!(row.code, shown);
    }
}
