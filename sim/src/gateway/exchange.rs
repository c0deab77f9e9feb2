//! Handles a request from its arrival to its answer: checks overlaps, applies faults, and waits.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    Gateway,
    open_call::OpenCall,
    outcome::{Delivery, Outcome},
};
use crate::{
    fault::Fault,
    journal::{Answer, Entry},
    reply::Reply,
    route::Route,
    wire::Request,
};

// === impl Gateway ===

impl Gateway {
    /// Handles a request. The future is dropped when the client disconnects.
    pub(crate) async fn exchange(self: &Arc<Self>, connection: u64, request: Request) -> Outcome {
        let route = Route::find(&request.method, &request.target, &self.options);
        let number = self.journal.record(Entry {
            at: self.uptime(),
            connection,
            method: request.method.clone(),
            target: request.target.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
            interface: route.as_ref().ok().map(|route| route.interface),
            agent: route.as_ref().ok().and_then(|route| route.agent),
            answer: None,
        });
        self.thawed().await;

        let (outcome, fault) = match &route {
            Ok(route) => match self.begin(route, request.header("guid")) {
                Ok(call) => self.misbehave(route, &request, call).await,
                Err(code) => (Reply::refusal(&self.options, &code).into(), None),
            },
            Err(why) => self.misroute(Reply::no_route(&self.options, *why)).await,
        };
        sleep(self.options.latency).await;
        self.thawed().await;
        self.note(number, &outcome, fault);
        outcome
    }

    /// Opens a call. If another open call conflicts with it, that is a violation, and by the options
    /// also a refusal.
    fn begin(self: &Arc<Self>, route: &Route, guid: Option<&str>) -> Result<OpenCall, String> {
        let interface = route.interface;
        let call = |agent| OpenCall::new(self.clone(), agent, interface);
        let Some(agent) = route.agent else {
            return Ok(call(None));
        };
        let mut records = self.lock();
        let record = records.record(agent);
        let conflicting = record.conflicting_call(interface);
        if interface.changes_state() && conflicting.is_none() {
            // The previous call has been answered, although its task may not have released its events
            // yet.
            record.release(&self.options);
        }
        let is_refused_anyway = conflicting.is_some()
            && !self.options.repeats_before_guid
            && !interface.signs_in()
            && records.authenticate(agent, guid, &self.options).is_err();
        if is_refused_anyway {
            return Ok(call(None));
        }
        if let Some(conflicting) = conflicting {
            records.record_violation(format!(
                "agent {agent}: {interface:?} came while {conflicting:?} was unanswered"
            ));
            if self.options.refuse_repeated {
                let codes = &self.options.codes;
                let both_sign_in = interface.signs_in() && conflicting.signs_in();
                return Err(if both_sign_in {
                    codes.repeated_sign_in.clone()
                } else {
                    codes.repeated_call.clone()
                });
            }
        }
        records.record(agent).open(interface);
        Ok(call(Some(agent)))
    }

    /// Carries out a request, or applies the fault of a matching rule.
    async fn misbehave(
        self: &Arc<Self>,
        route: &Route,
        request: &Request,
        call: OpenCall,
    ) -> (Outcome, Option<&'static str>) {
        let fault = self.rules.for_request(Some(route));
        let name = fault.as_ref().map(Fault::name);
        let outcome = match fault {
            None => self.carry_out(route, request).await.into(),
            Some(Fault::DelayBefore(time)) => {
                let late = self.clone().late(route.clone(), request.clone(), time);
                // In a task of its own, so that the gateway goes on if the client disconnects.
                let done = tokio::spawn(async move { (late.await, call) }).await;
                let (reply, call) = done.map_or_else(
                    |_| (Reply::page(500, "Internal Server Error"), None),
                    |(reply, call)| (reply, Some(call)),
                );
                return (Outcome { call, ..reply.into() }, name);
            }
            Some(Fault::Load { time, bears, strain }) => {
                let reply = self.carry_out(route, request).await;
                self.load.work(time, bears, strain).await;
                reply.into()
            }
            Some(fault) if !fault.is_carried_out() => fault.without_effect(&self.options),
            Some(fault) => {
                let reply = self.carry_out(route, request).await;
                call.release();
                fault.after_effect(reply).await
            }
        };
        let call = Some(call);
        (Outcome { call, ..outcome }, name)
    }

    async fn late(self: Arc<Self>, route: Route, request: Request, time: Duration) -> Reply {
        sleep(time).await;
        self.carry_out(&route, &request).await
    }

    /// The answer to a request that matches no interface. Rules without agent and interface apply to it
    /// too.
    async fn misroute(&self, reply: Reply) -> (Outcome, Option<&'static str>) {
        let Some(fault) = self.rules.for_request(None) else {
            return (reply.into(), None);
        };
        let name = Some(fault.name());
        if fault.is_carried_out() {
            return (fault.after_effect(reply).await, name);
        }
        (fault.without_effect(&self.options), name)
    }

    fn note(&self, number: u64, outcome: &Outcome, fault: Option<&'static str>) {
        let reply = &outcome.reply;
        let sent = !matches!(outcome.delivery, Delivery::Cut | Delivery::Never);
        let set_guid = reply.headers.iter().rev().find(|(name, _)| name == "Set-GUID");
        let answer = Answer {
            at: self.uptime(),
            status: sent.then_some(reply.status),
            retcode: reply.retcode.clone().filter(|_| sent),
            set_guid: set_guid
                .and_then(|(_, value)| value.strip_prefix("JSESSIONID="))
                .map(Into::into),
            fault,
        };
        self.journal.answered(number, answer);
    }
}
