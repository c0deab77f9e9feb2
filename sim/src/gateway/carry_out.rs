//! Carries out the requests of each interface.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Gateway, Records,
    group::skills_by_work_no,
    parameters::{busy_request, refuse_unless, rest_request},
    poll::announce,
    settings::agent_skills,
};
use crate::{
    agent::{AgentState, Event, Refused},
    interface::Interface,
    options::{AuthMode, Options},
    reply::Reply,
    retcode::Retcode,
    route::Route,
    sign_in::{self, SignIn, agent_of_account},
    wire::Request,
};

// === impl Gateway ===

impl Gateway {
    /// Carries out a request and returns its answer. Polls wait for events; all others answer at once.
    pub(super) async fn carry_out(self: &Arc<Self>, route: &Route, request: &Request) -> Reply {
        let guid = request.header("guid");
        let answered = match (route.interface, route.agent) {
            (Interface::Poll, Some(agent)) => return self.poll(agent, guid).await,
            (Interface::SignInByAccount, _) => agent_of_account(&request.body)
                .and_then(|agent| self.sign_in_with(agent, route, &request.body)),
            (interface, Some(agent)) if interface.signs_in() => {
                self.sign_in_with(agent, route, &request.body)
            }
            (_, Some(agent)) => self.lock().serve(agent, route, request, &self.options),
            (_, None) => return self.poll_all(guid).await,
        };
        answered.unwrap_or_else(|refused| Reply::refusal(&self.options, &refused.0))
    }

    /// Signs an agent in, and begins to send its events if the sign-in asks for that.
    fn sign_in_with(
        self: &Arc<Self>,
        agent: u32,
        route: &Route,
        body: &[u8],
    ) -> Result<Reply, Refused> {
        let sign_in = SignIn::read(body, route.interface)?;
        let mut records = self.lock();
        let reply = records.sign_in(agent, route.interface, &sign_in, &self.options)?;
        if let Some(url) = sign_in.push_url
            && let Some(session) = &records.record(agent).session
        {
            self.begin_to_push(agent, session.number, url);
        }
        Ok(reply)
    }
}

// === impl Records ===

impl Records {
    fn sign_in(
        &mut self,
        agent: u32,
        interface: Interface,
        sign_in: &SignIn,
        options: &Options,
    ) -> Result<Reply, Refused> {
        let (unknown, wrong) = match interface {
            Interface::SignInByAccount => (Retcode::BadAccount.into(), Retcode::BadAccount),
            _ => (options.codes.agent_unknown.clone(), Retcode::BadPassword),
        };
        let password = self.password(agent, options).ok_or(Refused(unknown))?;
        refuse_unless(sign_in.password == password, wrong)?;
        let record = self.record(agent);
        record.apply_due(options);
        record.check_no_switch_over()?;
        let forcible = interface == Interface::ForceSignIn;
        if record.session.is_some() && !options.force_sign_in {
            return Err(Refused(Retcode::ForceNotAllowed.into()));
        }
        if record.session.is_some() && !forcible {
            return Err(Refused(Retcode::AlreadySignedIn.into()));
        }

        let session = self.begin_session(agent, sign_in, options);
        let result = sign_in::result(agent, &session.login_time);
        let mut reply = Reply::result(options, &result);
        if options.auth_mode != AuthMode::None {
            reply.set_guid(session.current());
            reply.headers.push(("Guid".into(), session.current().into()));
        }
        if options.balancer_cookie {
            let cookie = format!("loadbalance={}; Path=/", session.node());
            reply.headers.push(("Set-Cookie".into(), cookie));
        }
        Ok(reply)
    }

    /// Carries out a request of any interface that needs a session and answers at once.
    fn serve(
        &mut self,
        agent: u32,
        route: &Route,
        request: &Request,
        options: &Options,
    ) -> Result<Reply, Refused> {
        self.authenticate(agent, request.header("guid"), options)?;
        let answered = match route.interface {
            Interface::AgentStatus => Ok(self.status(agent, options)),
            Interface::AgentSkills => agent_skills(options),
            Interface::AgentSkillsByWorkNo => skills_by_work_no(route, options),
            Interface::BeginMonitor | Interface::EndMonitor => self.monitor(agent, route, options),
            interface if interface.asks_about_group() => self.ask_group(agent, route, options),
            Interface::ChangePassword | Interface::ChangePasswordByQuery => {
                self.change_password(agent, route, &request.body, options)
            }
            Interface::QueryCustomState => self.custom_state(agent, options),
            Interface::Handshake | Interface::Heartbeat => self.heartbeat(agent, request, options),
            Interface::UpdateGuid => self.update_guid(agent, options),
            Interface::SignOut | Interface::ForceSignOut => self.sign_out(agent, route, options),
            interface if interface.inspects() => self.inspect(agent, route, options),
            interface if interface.changes_settings() => {
                self.change_settings(agent, route, options)
            }
            _ => self.change_state(agent, route, options),
        };
        // Whether refusals can carry a new Guid is undocumented; here they can.
        let mut reply = answered.unwrap_or_else(|refused| Reply::refusal(options, &refused.0));
        let session = self.record(agent).session.as_mut();
        if let Some(guid) = session.and_then(|session| session.announce_anywhere(options)) {
            reply.set_guid(&guid);
        }
        Ok(reply)
    }

    fn status(&mut self, agent: u32, options: &Options) -> Reply {
        let state_machine = &self.record(agent).state_machine;
        let result = serde_json::json!({
            "agentState": state_machine.shown().code(),
            "isWorking": state_machine.state == AgentState::Talking,
        });
        Reply::result(options, &result)
    }

    /// A heartbeat. In push mode it keeps the agent signed in and brings new Guids, as polls do
    /// otherwise (`cec_07_1204`). For an agent that polls it does nothing (inferred).
    fn heartbeat(
        &mut self,
        agent: u32,
        request: &Request,
        options: &Options,
    ) -> Result<Reply, Refused> {
        let token = request.header("service_token").unwrap_or_default();
        refuse_unless(sign_in::is_service_token(token), Retcode::BadSignIn)?;
        let session = self.record(agent).signed_in(options)?;
        let mut reply = if session.is_older_push {
            Reply::success(options, &serde_json::json!({ "loginTime": session.login_time }))
        } else {
            Reply::accepted_bare(options)
        };
        if session.push {
            session.last_heartbeat = Instant::now();
            announce(&mut reply, session, (request.header("guid"), options));
        }
        Ok(reply)
    }

    fn update_guid(&mut self, agent: u32, options: &Options) -> Result<Reply, Refused> {
        if options.auth_mode == AuthMode::None {
            return Err(Refused(options.codes.no_interface.clone()));
        }
        let session = self.record(agent).signed_in(options)?;
        let announced = session.announce_anywhere(options);
        let sends_header = announced.is_some() || options.update_guid_sends_header;
        let guid = announced.unwrap_or_else(|| session.hand_out(options));
        let mut reply = Reply::success(options, &serde_json::json!({ "guid": guid }));
        if sends_header {
            reply.set_guid(&guid);
        }
        Ok(reply)
    }

    /// A sign-out. It is refused while the agent is talking, unless it is forced; that ends the call
    /// (`cec_07_1219`, `cec_07_0353`).
    fn sign_out(&mut self, agent: u32, route: &Route, options: &Options) -> Result<Reply, Refused> {
        let forced = route.interface == Interface::ForceSignOut;
        if let Some(reason) = route.tail.first() {
            let good = reason.parse().is_ok_and(|reason: u8| reason > 0);
            refuse_unless(good, Retcode::BadSignOut)?;
        }
        let record = self.record(agent);
        if !forced && record.state_machine.state == AgentState::Talking {
            return Err(Refused(options.codes.sign_out_while_talking.clone()));
        }
        record.end_session(options, options.own_sign_out_event);
        Ok(if forced { Reply::accepted_bare(options) } else { Reply::accepted(options) })
    }

    fn change_state(
        &mut self,
        agent: u32,
        route: &Route,
        options: &Options,
    ) -> Result<Reply, Refused> {
        let record = self.record(agent);
        let state_machine = &mut record.state_machine;
        let events: Vec<Event> = match route.interface {
            Interface::SayBusy => state_machine.say_busy(busy_request(route)?, options)?,
            Interface::CancelBusy => state_machine.cancel_busy(options)?,
            Interface::SayFree => state_machine.say_free(options)?,
            Interface::Work => state_machine.work(options)?,
            Interface::CancelWork => state_machine.cancel_work(options)?,
            Interface::Rest => state_machine.rest(rest_request(route, options)?, options)?,
            Interface::CancelRest => state_machine.cancel_rest(options)?,
            _ => Vec::new(),
        };
        record.hold(events);
        Ok(Reply::accepted(options))
    }
}
