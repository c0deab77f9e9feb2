//! What callers were told, against what the gateway has done.

use std::collections::HashMap;

use ccgateway_bridge::sim::{Entry, Interface};
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::step::Step;

/// One call, and what its caller was told.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) agent: u32,
    pub(crate) step: Step,
    pub(crate) trace: u128,
    pub(crate) answer: Result<(), Status>,
}

pub(crate) struct Books(Vec<Told>);

/// What a call came to at the gateway.
#[derive(Default)]
struct Done {
    /// Requests that were carried out.
    surely: usize,
    /// Those of which the journal does not say it.
    maybe: usize,
    refused: usize,
}

impl Books {
    pub(crate) fn of(told: Vec<Told>) -> Self {
        Self(told)
    }

    /// Compares both sides, and names every call for which they differ.
    pub(crate) fn close(self, journal: &[Entry]) {
        let mut entries: HashMap<u128, Vec<&Entry>> = HashMap::new();
        for entry in journal {
            let trace = entry.header("traceparent").and_then(|value| value.split('-').nth(1));
            if let Some(trace) = trace.and_then(|trace| u128::from_str_radix(trace, 16).ok()) {
                entries.entry(trace).or_default().push(entry);
            }
        }
        let mut sums = [0_usize; 4];
        let mut lies = Vec::new();
        for told in &self.0 {
            let of_call = entries.get(&told.trace).map(Vec::as_slice).unwrap_or_default();
            let (place, lie) = told.judge(&Done::of(told.step, of_call));
            sums[place] += 1;
            lies.extend(lie.map(|lie| format!("{lie}: {told:?}, {of_call:?}")));
        }
        let [accepted, not_sent, refused, unknown] = sums;
        let seen = format!(
            "{} calls: {accepted} accepted, {not_sent} not sent, {refused} refused, {unknown} unknown",
            self.0.len()
        );
        let shown: Vec<_> = lies.iter().take(5).collect();
        assert!(lies.is_empty(), "{seen}; {} lies, such as {shown:#?}", lies.len());
        assert!(sums.iter().all(|sum| *sum > 0), "every outcome has to be tried: {seen}");
    }
}

impl Told {
    /// Which of the four outcomes the caller was told, and why that is a lie, if it is.
    fn judge(&self, done: &Done) -> (usize, Option<&'static str>) {
        let carried_out = done.surely + done.maybe;
        let twice = self.step != Step::GetState && carried_out > 1;
        let (place, lie) = match &self.answer {
            Ok(()) => (0, (carried_out == 0).then_some("accepted, and not carried out")),
            Err(status) => {
                let details = status.get_error_details();
                let info = details.error_info();
                let outcome = info.and_then(|info| info.metadata.get("outcome"));
                match outcome.map(String::as_str) {
                    Some("not_sent") => {
                        // What only reads is repeated by gRPC, and each attempt has its own answer.
                        let asked = self.step != Step::GetState && carried_out + done.refused > 0;
                        (1, asked.then_some("not sent, and at the gateway"))
                    }
                    Some("refused") => (2, (carried_out > 0).then_some("refused, and carried out")),
                    Some("unknown") => (3, None),
                    _ => (3, Some("without an outcome")),
                }
            }
        };
        (place, lie.or(twice.then_some("carried out twice")))
    }
}

impl Done {
    fn of(step: Step, entries: &[&Entry]) -> Self {
        let mut done = Self::default();
        for entry in entries.iter().filter(|entry| is_of(step, entry.interface)) {
            let Some(answer) = &entry.answer else {
                done.maybe += 1;
                continue;
            };
            match (answer.retcode.as_deref(), answer.fault) {
                (Some("0"), _) => done.surely += 1,
                (Some(_), _) | (None, Some("status" | "html" | "retcode")) => done.refused += 1,
                (None, _) => done.maybe += 1,
            }
        }
        done
    }
}

fn is_of(step: Step, interface: Option<Interface>) -> bool {
    let forced = step == Step::SignIn && interface == Some(Interface::ForceSignIn);
    interface == Some(step.interface()) || forced
}
