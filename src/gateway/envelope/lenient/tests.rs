use std::cell::Cell;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use super::{
    super::{Envelope, Unreadable},
    Members, Steps, members, read,
};
use crate::retcode::{ACCEPTED, Retcode};

/// The retcode as the gateway wrote it. `None` if none is readable.
fn retcode(body: &str) -> Option<String> {
    let envelope = Envelope::read(body.as_bytes(), None).ok()?;
    Some(envelope.refused.as_ref().map_or(ACCEPTED, Retcode::as_str).to_owned())
}

#[test]
fn what_old_servers_write_is_read_as_it_was_meant() {
    let refusal = |message: &str| Members {
        retcode: "100-006".into(),
        message: message.into(),
        result: Value::Null,
        event: Value::Null,
    };
    for (body, message) in [
        ("{\"message\":\"agent\n1001\",\"retcode\":\"100-006\"}", "agent\n1001"),
        ("{\"message\":\"agent\t1001\u{1}\",\"retcode\":\"100-006\"}", "agent\t1001\u{1}"),
        ("{'message':'the agent\\'s','retcode':'100-006'}", "the agent's"),
        ("{message:\"x\",retcode:\"100-006\"}", "x"),
        ("{message:'x',retcode:100-006}", "x"),
        ("{\"message\":\"x\",\"retcode\":\"100-006\",}", "x"),
        ("{,\"message\":\"x\",,\"retcode\":\"100-006\"}", "x"),
        ("{\"message\":\"x\", /* was 0 */ \"retcode\":\"100-006\" // end\n}", "x"),
        ("{\"message\":\"c:\\log\\x\\u12\",\"retcode\":\"100-006\"}", "c:\\log\\x\\u12"),
        ("{\"message\":\"\\x41\\u0042\\q\",\"retcode\":\"100-006\"}", "AB\\q"),
        ("{\"message\":\"\\ud83d\\ude00 \\ud83d\",\"retcode\":\"100-006\",}", "\u{1f600} \u{fffd}"),
        (
            "{\"message\":\"agent \"1001\" not login\",\"retcode\":\"100-006\"}",
            "agent \"1001\" not login",
        ),
        (
            "{\"retcode\":\"100-006\",\"message\":\"no \"skill\", no right\"}",
            "no \"skill\", no right",
        ),
        ("{\"message\":\"the \"x\"} y\",\"retcode\":\"100-006\"}", "the \"x\"} y"),
        ("{\"message\":\"say \"x\" in c:\\\",\"retcode\":\"100-006\"}", "say \"x\" in c:\\"),
        ("{\"retcode\":\"100-006\",\"message\":\"a\",\"message\":\"b\"}", "b"),
        ("{\"retcode\":\"100-006\",\"message\":\"x\",\"retcode\":\"100-006\"}", "x"),
        ("{\"retcode\":\"100-006\",\"message\":\"x\"});\r\n\0\0\u{feff}", "x"),
        ("{\"retcode\":\"100-006\",\"message\":\"x\",\"result\":undefined}", "x"),
        ("{\"retcode\":\"100-006\",\"message\":\"x\",\"result\":NaN,\"more\":+1}", "x"),
    ] {
        assert_eq!(members(body), Some(refusal(message)), "{body}");
        assert_eq!(retcode(body).as_deref(), Some("100-006"), "{body}");
        let steps = Steps::for_body(body);
        assert!(read(body, &steps).is_some() && steps.taken.get() < 10 * body.len(), "{body}");
    }
}

#[test]
fn a_result_that_cannot_be_read_is_given_as_it_came() {
    let result = |body: &str| Envelope::read(body.as_bytes(), None).map(|read| read.result);
    for (body, expected) in [
        (r#"{"retcode":"0","result":{a:[1,{b:'c'},],}}"#, json!({"a": [1, {"b": "c"}]})),
        (r#"{"result":{"a":[1},"retcode":"0"}"#, json!(r#"{"a":[1}"#)),
        (r#"{"result":<b>late</b>,"retcode":"0"}"#, json!("<b>late</b>")),
        (r#"{"result":{"a" 1},"retcode":"0"}"#, json!(r#"{"a" 1}"#)),
        (r#"{"retcode":"0","result":{a:1 b:2}}"#, json!("{a:1 b:2}")),
        (r#"{"result":[a b, c:1],"retcode":"0"}"#, json!("[a b, c:1]")),
        (r#"{"result":{x "},y:1"},"retcode":"0"}"#, json!(r#"{x "},y:1"}"#)),
        (r#"{"retcode":"0","result":12:30:00}"#, json!("12:30:00")),
    ] {
        assert_eq!(result(body), Ok(Some(expected.to_string().into())), "{body}");
    }
}

#[test]
fn an_event_is_read_like_a_result() {
    let read = Envelope::read(b"{'retcode':'0','event':{eventType:1}}", None);
    assert_eq!(read.expect("it ends").event.as_deref(), Some(r#"{"eventType":1}"#));
}

#[test]
fn a_retcode_without_quotes_is_read_as_it_is_written() {
    for (body, expected) in [
        ("{retcode:0}", "0"),
        ("{retcode:-0}", "0"),
        ("{retcode:-3}", "-3"),
        ("{retcode:00}", "00"),
    ] {
        assert_eq!(retcode(body).as_deref(), Some(expected), "{body}");
    }
}

#[test]
fn what_can_be_mistaken_is_not_read() {
    for body in [
        r#"{"retcode":"0""#,
        r#"{"retcode":"0","message":"cut"#,
        r#"{"retcode":"0","result":{"a":"#,
        r#"{"retcode":"0","retcode":"1"}"#,
        r#"{'retcode':'0',"retcode":0}"#,
        r#"{"result":{"retcode":"0"}, x}"#,
        r#"{"result":{"retcode":"0"},}"#,
        r#"{"result":{"a":1},"retcode":"9"} ,"retcode":"0","message":""}"#,
        r#"{"result":{"a":[1}],"retcode":"9","b":{}}","retcode":"0","message":"a"b"}"#,
        r#"{"retcode":"100-006","message":"the "retcode":"0" is "none""}"#,
        r#"{"message":"x","retcode":"0","result":"","retcode":"100-006",}"#,
        r#"{"retcode":false,}"#,
        r#"{"retcode":0.0,}"#,
        r#"{"retcode":,}"#,
        r#"{"retcode":{"a":"0"},}"#,
        r#"{"retcode":"0",} {"retcode":"1"}"#,
        r#"{"retcode":"0"} x"#,
        "{retcode:ok}",
        "{retcode:'',}",
    ] {
        assert_eq!(retcode(body), None, "{body}");
    }
    let deep = format!("{{'retcode':'0','result':{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
    assert_eq!(retcode(&deep).as_deref(), Some("0"), "a deep value is not looked into");
    assert!(matches!(
        Envelope::read(br#"{"retcode":"0","message":"cut"#, None),
        Err(Unreadable::NotAnObject { .. })
    ));
}

/// Damages a text as servers do that assemble JSON from strings.
fn damaged(random: &mut StdRng, text: &str) -> String {
    const DAMAGE: [&str; 16] = [
        "\n", "\t", "\"", "'", "\\", "\\u12", "\\x", "{", "}", "[", "]", "\u{0}", "<br>", "//",
        "/*", "\u{fffd}",
    ];
    let mut damaged = text.to_owned();
    for _ in 0..random.random_range(0..4) {
        let places: Vec<_> = damaged.char_indices().map(|(at, _)| at).collect();
        match places.get(random.random_range(0..=places.len())).copied() {
            Some(at) if random.random_bool(0.3) => drop(damaged.remove(at)),
            at => damaged.insert_str(
                at.unwrap_or(damaged.len()),
                DAMAGE[random.random_range(0..DAMAGE.len())],
            ),
        }
    }
    damaged
}

/// The test knows the retcode that it wrote, so it can compare.
#[test]
fn damage_outside_the_retcode_never_changes_it() {
    const MESSAGES: [&str; 4] = ["success", "agent not login", "no right, or \"0\"", ""];
    const RESULTS: [&str; 6] = [
        "{}",
        "null",
        r#"{"agentState":4,"isWorking":false}"#,
        r#"[{"retcode":"9"}]"#,
        r#"{"a":1,"retcode":"9"}"#,
        r#"{"a":[1],"retcode":"9","b":{}}"#,
    ];
    let mut random = StdRng::seed_from_u64(16);
    let mut unread = 0;
    for _ in 0..100_000 {
        let code = ["0", "100-006", "000-003"][random.random_range(0..3)];
        let message = MESSAGES[random.random_range(0..MESSAGES.len())];
        let message = damaged(&mut random, message);
        let intact = RESULTS[random.random_range(0..RESULTS.len())];
        let result = damaged(&mut random, intact);
        let mut members = [
            format!("\"retcode\":\"{code}\""),
            format!("\"message\":\"{message}\""),
            format!("\"result\":{result}"),
        ];
        members.rotate_left(random.random_range(0..3));
        let body = format!("{{{}}}", members.join(","));
        if let Some(read) = retcode(&body) {
            assert_eq!(read, code, "{body}");
        } else {
            // Nobody knows where a result ends whose brackets do not match, or which of two retcodes counts
            // where quotes do not.
            assert!(result != intact || intact.contains("retcode"), "{body}");
            unread += 1;
        }
    }
    assert!(unread < 40_000, "{unread} of 100 000");
}

#[test]
fn a_malformed_value_is_given_as_it_came_however_many_quotes_and_brackets_it_has() {
    let quotes = "\"".to_owned() + &"\\\"".repeat(1000);
    let brackets = "[".repeat(1000) + &"]".repeat(1000);
    for value in [quotes, brackets] {
        let body = format!("{{\"retcode\":\"0\",\"result\":<{value}}}");
        let result = members(&body).map(|members| members.result);
        assert_eq!(result, Some(Value::String(format!("<{value}"))));
    }
}

#[test]
fn a_body_that_takes_one_step_too_many_is_not_read() {
    let body = r#"{"message":"agent "1001" not login","retcode":"100-006"}"#;
    let counted = Steps::for_body(body);
    assert!(read(body, &counted).is_some());
    let needed = counted.taken.get();
    for (limit, is_read) in [(needed, true), (needed - 1, false)] {
        let steps = Steps { taken: Cell::new(0), limit };
        assert_eq!(read(body, &steps).is_some(), is_read, "{limit} of {needed} steps");
    }
}

/// A step is taken for each byte that the reader looks at, again and again where it looks ahead.
#[test]
fn a_body_that_looks_like_an_end_everywhere_takes_steps_in_proportion_to_its_length() {
    const PIECES: &str = r#",~}~"~'~,"~,'~/*~,/*~//~,a~{~[{~\"~",~ ~, ~a:""b,~x:'"'y,~[}~{]~]~};~)~"}~""~,'\~a,//~a:{b},~a:["],~a:[[~,,a:b c,~{a:~retcode:~retcode:[~retcode/*~/**/"#;
    const STARTS: &str = r#"{~{"a":~{"a":"~{"a":[~{'a':<~{a:["],~{a:"b"c"#;
    let mut bodies = vec![format!("{{\"a\":{}{}", "[".repeat(4000), "}".repeat(4000))];
    for start in STARTS.split('~') {
        for piece in PIECES.split('~') {
            let all = start.to_owned() + &piece.repeat(8 * 1024 / piece.len());
            bodies.extend([all.clone() + "\"}", all]);
        }
    }
    for body in bodies {
        let steps = Steps::for_body(&body);
        let beginning: String = body.chars().take(60).collect();
        let retcode = read(&body, &steps).map(|members| members.retcode);
        assert_eq!(retcode.unwrap_or_default(), Value::Null, "{beginning}");
        // Whoever takes the step that is too many may have looked at all the rest for it.
        let (taken, most) = (steps.taken.get(), steps.limit + 2 * body.len());
        assert!(taken <= most, "{taken} steps for {} bytes: {beginning}", body.len());
    }
}
