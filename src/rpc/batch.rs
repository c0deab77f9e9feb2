//! `BatchSetBusy`: one call for many agents.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use prost::Message as _;
use tracing::debug;

use super::{
    Method,
    about::{About, Addressed, ID_MAX, visible},
    audited::AuditedAgents,
    check::{BATCH_MAX, Checker},
    error_report::{Recipient, code_name},
    proto::{
        BatchSetBusyRequest, BatchSetBusyResponse, StateChange,
        batch_set_busy_response::{Result as Item, result::Result as Became},
    },
    respond::Call,
    status::{self, Refused},
    translate,
};
use crate::{
    call::{CallError, Deadline, Obstacle},
    config::Overrides,
    gateway::{Command, SHORT_MAX},
    id::{AgentId, RequestId},
    telemetry::{audit::AuditedAgent, trace::SpanKind},
    tenant::{Accepted, Answer, CallPlace, ChangeId, Context, Tenant},
};

impl Addressed for BatchSetBusyRequest {
    fn tenant_id(&self) -> &str {
        &self.tenant_id
    }

    fn agent_id(&self) -> &str {
        if let [agent_id] = &*self.agent_ids { agent_id } else { "" }
    }
}

/// What the call for each agent needs.
struct Batch {
    tenant: Arc<Tenant>,
    command: Command,
    request_id: Option<RequestId>,
    /// How long to wait for confirmations, and the deadline for all of them.
    confirm: Option<(Duration, Deadline)>,
    /// Has a deadline before the caller's own, so that the answer with all results is still in
    /// time.
    context: Context,
    audited: Option<AuditedAgents>,
    /// Its place among the tenant's calls, from the first change on whose confirmation it waits for.
    place: OnceLock<CallPlace>,
}

/// Sets many agents busy, a few at a time.
pub(super) async fn set_busy(
    call: Call,
    request: BatchSetBusyRequest,
) -> Result<BatchSetBusyResponse, CallError> {
    let mut checker = Checker::default();
    let tenant = checker.tenant(call.tenant.as_ref(), &request.tenant_id)?.cloned();
    checker.batch(&request.agent_ids);
    let command = checker.busy(request.reason, request.prolong);
    let confirm_within = checker.confirm_within(request.confirm_within);
    let request_id = checker.request_id(&request.request_id);
    let tenant = checker.done(tenant)?;

    let context = Context { deadline: call.context.deadline.sooner(), ..call.context.clone() };
    let confirm = confirm_within.map(|within| (within, call.confirmed_by(within).sooner()));
    let batch = &Batch {
        tenant,
        command,
        request_id,
        confirm,
        context,
        audited: call.audited.clone(),
        place: OnceLock::new(),
    };
    if let Some(audited) = &batch.audited {
        audited.list(request.agent_ids.iter().map(|agent_id| visible(agent_id, ID_MAX)));
    }
    let overrides = &call.shared.overrides;
    let asked = request.agent_ids.into_iter().enumerate().map(async |(place, agent_id)| {
        let span = batch.context.trace.child(|| "agent".into(), SpanKind::Internal);
        span.set("ccgw.agent.id", || visible(&agent_id, ID_MAX));
        let context = Context { trace: span.trace().clone(), ..batch.context.clone() };
        if let Some(audited) = &batch.audited {
            audited.begin(place);
        }
        let asked = batch.ask(&agent_id, &context).await;
        (place, agent_id, asked, context, span)
    });
    // Unordered, so that an agent whose request hangs does not delay the others.
    let asked = stream::iter(asked).buffer_unordered(batch.tenant.batch_share());
    let results = asked.map(async |(place, agent_id, asked, context, _span)| {
        let result = match asked {
            Ok((agent, accepted)) => {
                batch.audit((place, &agent_id), None);
                Became::Accepted(batch.confirm(agent, accepted, &context).await)
            }
            Err(error) => batch.refused((place, &agent_id), &error, overrides),
        };
        (place, Item { agent_id, result: Some(result) })
    });
    // All confirmations are awaited at once. An event may not come, for example while an agent is
    // in a call, and that must not delay the others.
    let mut done: Vec<_> = results.buffer_unordered(BATCH_MAX).collect().await;
    done.sort_unstable_by_key(|(place, _)| *place);
    let results: Vec<Item> = done.into_iter().map(|(_, item)| item).collect();
    let failed = |item: &&Item| matches!(item.result, Some(Became::Error(_)));
    let error_count = results.iter().filter(failed).count().try_into().unwrap_or(i32::MAX);
    Ok(BatchSetBusyResponse { results, error_count })
}

impl Batch {
    async fn ask(
        &self,
        agent_id: &str,
        context: &Context,
    ) -> Result<(AgentId, Accepted), CallError> {
        let range = &self.tenant.config().agent_ids;
        let agent = AgentId::parse(agent_id, range)
            .map_err(|invalid| Obstacle::invalid("agent_ids", invalid.to_string()))
            .map_err(CallError::unasked)?;
        let (command, own) = (self.command.clone(), || self.place.get().cloned());
        let id = self.request_id.map(|request| ChangeId { request, of_batch: Some(agent) });
        let mut accepted = self.tenant.command_of_batch((agent, id), command, context, own).await?;
        // The first one's place stays the batch's. The others are given back.
        let place = accepted.place.take().filter(|_| self.confirm.is_some());
        let _another = place.map(|place| self.place.set(place));
        if let Answer::Envelope(envelope) = &mut accepted.answer {
            envelope.shorten();
        }
        Ok((agent, accepted))
    }

    /// What the caller is told of an agent whose change failed.
    fn refused(
        &self,
        (place, agent_id): (usize, &str),
        error: &CallError,
        overrides: &Overrides,
    ) -> Became {
        if let Some(Obstacle::Overloaded { share, .. }) = error.obstacle() {
            self.tenant.metrics().overloaded(*share);
        }
        let agent_id = visible(agent_id, ID_MAX);
        let tenant_id = self.tenant.id().to_string();
        debug!(ccgw.tenant.id = tenant_id, ccgw.agent.id = agent_id, %error, "one of a batch failed");
        let about = About { method: Method::BatchSetBusy.name(), tenant_id, agent_id };
        let to = Recipient { about: &about, gateway: self.tenant.gateway(), left: None };
        let refused = status::refuse(error, &to, overrides);
        self.audit((place, &about.agent_id), Some((error, &refused)));
        Became::Error(status::message_of(&refused.status))
    }

    /// Notes for the audit log what came of an agent: the error and what the caller is told, if there is
    /// one.
    fn audit(&self, (place, agent_id): (usize, &str), failed: Option<(&CallError, &Refused)>) {
        let Some(audited) = &self.audited else { return };
        let agent = AuditedAgent {
            agent: visible(agent_id, ID_MAX),
            code: failed.map_or("OK", |(_, refused)| code_name(refused.status.code())),
            reason: failed.map(|(_, refused)| refused.reason.clone()),
            outcome: failed.map(|(error, _)| error.outcome().as_str()),
            retcode: failed.and_then(|(error, _)| Some(error.last_refusal()?.retcode.to_string())),
        };
        audited.end(place, agent);
    }

    async fn confirm(&self, agent: AgentId, accepted: Accepted, context: &Context) -> StateChange {
        let confirmation = match self.confirm {
            Some((within, deadline)) => {
                let context = Context { deadline, ..context.clone() };
                Some(self.tenant.confirm(agent, &accepted, within, &context).await)
            }
            None => None,
        };
        let mut change = translate::changed(accepted.answer, confirmation);
        // A number takes up to six times as many bytes as in JSON.
        change.result.take_if(|result| result.encoded_len() > SHORT_MAX);
        change
    }
}
