//! Compares what callers were told with what the gateway has done.

use std::{collections::HashMap, fmt, time::Duration};

use ccgateway_sim::{Entry, Interface};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

use crate::step::Step;

/// One call, and what its caller was told.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) agent: u32,
    pub(crate) step: Step,
    pub(crate) trace: u128,
    /// Whether a fault in its way hides what became of it.
    pub(crate) is_hidden: bool,
    /// How long the call took.
    pub(crate) took: Duration,
    pub(crate) answer: Result<(), Status>,
}

pub(crate) struct Books {
    told: Vec<Told>,
    /// Whether gRPC may have made several attempts of one change.
    repeats_changes: bool,
}

/// Of so many calls, one may be told `unknown` although neither a fault of its own nor time explains it:
/// the fault before it may have closed a connection under it.
const UNEXPLAINED: usize = 200;
/// Below every limit of time that a call has. Slow machines reach those without a fault.
const TIME_LIMIT: Duration = Duration::from_millis(200);

/// The place of `unknown` among the outcomes.
const UNKNOWN: usize = 4;

/// Changes whose callers were told `unknown`.
#[derive(Default)]
struct Unknown {
    late: usize,
    at_goal: usize,
    untold: usize,
    other: usize,
}

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
    pub(crate) fn of(told: Vec<Told>, repeats_changes: bool) -> Self {
        Self { told, repeats_changes }
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
        let mut sums = [0_usize; 5];
        let (mut changes, mut unknown_changes) = (0, Unknown::default());
        let (mut lies, mut unexplained) = (Vec::new(), Vec::new());
        for told in &self.told {
            let mut of_call = entries.get(&told.trace).cloned().unwrap_or_default();
            of_call.retain(|entry| entry.agent == Some(told.agent));
            let (place, lie) = told.judge(&Done::of(told.step, &of_call), self.repeats_changes);
            sums[place] += 1;
            if told.step.is_change() {
                changes += 1;
                if place == UNKNOWN {
                    unknown_changes.note(told);
                }
            }
            if place == UNKNOWN && !told.is_hidden && !told.is_late() {
                unexplained.push(told);
            }
            lies.extend(lie.map(|lie| format!("{lie}: {told:?}, {of_call:?}")));
        }
        let [accepted, not_sent, refused, not_applied, unknown] = sums;
        let seen = format!(
            "{} calls: {accepted} accepted, {not_sent} not sent, {refused} refused, \
             {not_applied} not applied, {unknown} unknown",
            self.told.len()
        );
        println!("  {seen}");
        println!("  of {changes} changes were told unknown: {unknown_changes}");
        let shown: Vec<_> = lies.iter().take(5).collect();
        assert!(lies.is_empty(), "{seen}; {} lies, such as {shown:#?}", lies.len());
        let tried = [accepted, not_sent, refused, unknown];
        assert!(tried.iter().all(|sum| *sum > 0), "every outcome has to be tried: {seen}");
        let shown: Vec<_> = unexplained.iter().take(5).collect();
        assert!(
            unexplained.len() * UNEXPLAINED <= self.told.len(),
            "{seen}; {} of them unknown without a reason, such as {shown:#?}",
            unexplained.len()
        );
    }
}

impl Told {
    /// Whether the bridge says that a limit of time has passed, and it may have.
    fn is_late(&self) -> bool {
        let details = self.answer.as_ref().err().map(StatusExt::get_error_details);
        let info = details.as_ref().and_then(ErrorDetails::error_info);
        let is_limit = info
            .is_some_and(|info| matches!(info.reason.as_str(), "DEADLINE" | "GATEWAY_NO_ANSWER"));
        is_limit && self.took >= TIME_LIMIT
    }

    /// Which of the five outcomes the caller was told, and why that is a lie, if it is.
    fn judge(&self, done: &Done, repeats_changes: bool) -> (usize, Option<&'static str>) {
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
                        // Where gRPC repeats calls, each attempt has its own answer.
                        let repeats = repeats_changes || self.step == Step::GetState;
                        let asked = carried_out > 0 || (!repeats && done.refused > 0);
                        let asked = asked && self.step != Step::GetState;
                        (1, asked.then_some("not sent, and at the gateway"))
                    }
                    Some("refused") => (2, (carried_out > 0).then_some("refused, and carried out")),
                    Some("not_applied") => {
                        (3, (carried_out > 0).then_some("carried out after all"))
                    }
                    Some("unknown") => (UNKNOWN, None),
                    _ => (UNKNOWN, Some("without an outcome")),
                }
            }
        };
        (place, lie.or(twice.then_some("carried out twice")))
    }
}

impl Unknown {
    fn note(&mut self, told: &Told) {
        let details = told.answer.as_ref().err().map(StatusExt::get_error_details);
        let info = details.as_ref().and_then(ErrorDetails::error_info);
        let observed = info.and_then(|info| info.metadata.get("observed_state"));
        let sum = match (info, observed) {
            (Some(info), None) if info.reason == "DEADLINE" => &mut self.late,
            (_, Some(state)) if state == told.step.goal() => &mut self.at_goal,
            (_, None) => &mut self.untold,
            (_, Some(_)) => &mut self.other,
        };
        *sum += 1;
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { late, at_goal, untold, other } = self;
        let sum = late + at_goal + untold + other;
        write!(
            f,
            "{sum}; {late} since their time was over before the gateway could be asked, {untold} since it was asked \
             and did not tell, {at_goal} of agents who were found in the state that was asked for and may have been \
             in it before, {other} others"
        )
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
    // The plain sign-in comes before the forcible one.
    let plain = step == Step::ForceSignIn && interface == Some(Interface::SignIn);
    interface == Some(step.interface()) || plain
}
