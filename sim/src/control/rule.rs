//! Reads rules from JSON.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use crate::{Fault, Interface, Misbehaviour};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    agent: Option<u32>,
    interface: Option<Interface>,
    times: Option<u32>,
    fault: Kind,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Kind {
    Delay {
        ms: u64,
    },
    DelayBefore {
        ms: u64,
    },
    Load {
        ms: u64,
        bears: u32,
        #[serde(default = "one")]
        strain: u32,
    },
    Hang,
    CutBeforeAnswer,
    CutMidAnswer,
    Status {
        status: u16,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        #[serde(default)]
        body: String,
        #[serde(default = "text")]
        content_type: String,
    },
    Html,
    Retcode {
        retcode: String,
        #[serde(default)]
        message: String,
    },
    Raw {
        body: String,
        #[serde(default = "json")]
        content_type: String,
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    CloseAfterAnswer,
    TlsFailure,
    StaleSetGuid {
        guid: String,
    },
}

/// Reads a rule; an unknown field is an error.
pub(super) fn read(body: &[u8]) -> serde_json::Result<Misbehaviour> {
    let rule: Rule = serde_json::from_slice(body)?;
    Ok(Misbehaviour {
        agent: rule.agent,
        interface: rule.interface,
        times: rule.times,
        fault: rule.fault.into(),
    })
}

impl From<Kind> for Fault {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Delay { ms } => Self::Delay(Duration::from_millis(ms)),
            Kind::DelayBefore { ms } => Self::DelayBefore(Duration::from_millis(ms)),
            Kind::Load { ms, bears, strain } => {
                Self::Load { time: Duration::from_millis(ms), bears, strain }
            }
            Kind::Hang => Self::Hang,
            Kind::CutBeforeAnswer => Self::CutBeforeAnswer,
            Kind::CutMidAnswer => Self::CutMidAnswer,
            Kind::Status { status, headers, body, content_type } => Self::Status {
                status,
                headers: headers.into_iter().collect(),
                body: body.into_bytes(),
                content_type,
            },
            Kind::Html => Self::Html,
            Kind::Retcode { retcode, message } => Self::Retcode { retcode, message },
            Kind::Raw { body, content_type, headers } => Self::Raw {
                body: body.into_bytes(),
                content_type,
                headers: headers.into_iter().collect(),
            },
            Kind::CloseAfterAnswer => Self::CloseAfterAnswer,
            Kind::TlsFailure => Self::TlsFailure,
            Kind::StaleSetGuid { guid } => Self::StaleSetGuid(guid),
        }
    }
}

fn one() -> u32 {
    1
}

fn text() -> String {
    "text/plain".into()
}

fn json() -> String {
    "application/json".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_called_what_the_journal_calls_it() {
        for (name, more) in [
            ("delay", r#","ms":1"#),
            ("delay-before", r#","ms":1"#),
            ("load", r#","ms":1,"bears":8"#),
            ("hang", ""),
            ("cut-before-answer", ""),
            ("cut-mid-answer", ""),
            ("status", r#","status":503"#),
            ("html", ""),
            ("retcode", r#","retcode":"100-007""#),
            ("raw", r#","body":"{}""#),
            ("close-after-answer", ""),
            ("tls-failure", ""),
            ("stale-set-guid", r#","guid":"x""#),
        ] {
            let body = format!(r#"{{"fault":{{"kind":"{name}"{more}}}}}"#);
            let rule = read(body.as_bytes()).unwrap();
            assert_eq!(rule.fault.name(), name);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let error = read(br#"{"interface":"saybusy","fault":{"kind":"hang"}}"#).unwrap_err();
        assert!(error.to_string().contains("say-busy"), "{error}");
        assert!(read(br#"{"agnet":7,"fault":{"kind":"hang"}}"#).is_err());
    }
}
