//! Checks the gateway's answer to a request without a Guid, and its clock.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, StatusCode,
    header::{DATE, LOCATION},
};

use super::{
    AddressCheck, Reached, Stop,
    hello::{self, Spoken},
    printable,
};
use crate::{
    config::Tenant,
    gateway::{
        Reply, Unreadable,
        probe::{is_unknown_there, says_unknown},
    },
    retcode::{Kind, Retcode},
};

/// How far the clocks may differ. `Date` has only whole seconds, and the answer takes time; this much
/// does not matter for certificates and events.
const SKEW_MAX: Duration = Duration::from_secs(30);

impl AddressCheck<'_> {
    pub(super) async fn answer(
        &mut self,
        answer: Result<Reply, String>,
        reached: &Reached,
    ) -> Result<(), Stop> {
        let reply = match answer {
            Ok(reply) => reply,
            Err(words) => return Err(self.no_answer(words, reached).await),
        };
        if reply.envelope.is_err() && self.is_tls_port(reached).await {
            let remedy = format!("write https:// in {}", self.key("base_urls"));
            let found = format!("{} speaks TLS, not plain HTTP", reached.addr);
            return Err(self.problem("answer", found, remedy));
        }
        match reply.envelope {
            Ok(envelope) => self.envelope(envelope.refused.as_ref()),
            Err(_) if is_of_no_interface(self.tenant, reply.status) => self.unknown(reply.status),
            Err(unreadable) => return Err(self.other(reply.status, &reply.headers, &unreadable)),
        }
        self.clock(&reply.headers);
        self.keep_alive(&reply.headers);
        Ok(())
    }

    async fn no_answer(&mut self, words: String, reached: &Reached) -> Stop {
        if self.is_tls_port(reached).await {
            let remedy = format!("write https:// in {}", self.key("base_urls"));
            let found = format!("{} speaks TLS, not plain HTTP", reached.addr);
            return self.problem("answer", found, remedy);
        }
        let remedy = "ask the gateway's operator what its log says; something in between may hold \
                      requests back";
        self.problem("answer", words, remedy)
    }

    async fn is_tls_port(&self, reached: &Reached) -> bool {
        if self.url.scheme_str() != Some("http") {
            return false;
        }
        let spoken = hello::probe(reached.addr, &reached.host, &self.tenant.timeouts).await;
        matches!(spoken, Spoken::Tls { .. } | Spoken::OtherCurve | Spoken::Alert(_))
    }

    fn envelope(&mut self, refused: Option<&Retcode>) {
        let Some(retcode) = refused else {
            self.ok("answer", "from a gateway, which gives an agent's status even without a Guid");
            return;
        };
        let meaning = retcode.listed().map_or("in no public list", |listed| listed.meaning);
        let found = format!("from a gateway: retcode {retcode} ({meaning})");
        match retcode.kind() {
            kind if kind.is_without_session() => {
                self.ok("answer", format!("{found}, as it should be without a Guid"));
            }
            Kind::ParameterRejected => {
                let remedy = format!("check {}", self.key("agent_ids"));
                self.warning("answer", found, remedy);
            }
            _ => self.warning(
                "answer",
                format!("{found}; expected without a Guid is 000-003 or 100-006"),
                "ask the gateway's operator what it means",
            ),
        }
    }

    /// Reports that the gateway does not have what it was asked for, which a wrong path answers too.
    fn unknown(&mut self, status: StatusCode) {
        let code = status.as_u16();
        let found = format!(
            "HTTP {code}, as from a gateway of edition 2014 without Guids, which can be asked nothing \
             else that changes nothing"
        );
        let remedy = format!(
            "sign an agent in to see whether {} has the gateway's path; a wrong one is answered in the \
             same way",
            self.key("base_urls")
        );
        self.warning("answer", found, remedy);
    }

    /// Reports an answer without a readable envelope.
    fn other(&mut self, status: StatusCode, headers: &HeaderMap, unreadable: &Unreadable) -> Stop {
        let code = status.as_u16();
        let urls = self.key("base_urls");
        let path = self.url.path();
        let (found, remedy) = match code {
            200..=299 => (
                format!("HTTP {code}, but not from a gateway: {unreadable}"),
                format!(
                    "check host, port and path in {urls}; if a balancer, a portal or a login page is \
                     before the gateway, have it let {path} through"
                ),
            ),
            300..=399 => (
                format!("HTTP {code}, a redirect to {}", location(headers)),
                format!("the bridge follows no redirects: write the final address in {urls}"),
            ),
            404 | 405 => (
                format!("HTTP {code}: there is nothing under {path}"),
                format!(
                    "write the gateway's path in {urls}, /agentgateway/resource as a rule; or \
                     {} has ids that this gateway does not know",
                    self.key("agent_ids")
                ),
            ),
            401 | 403 | 407 => (
                format!("HTTP {code}: the gateway, or a proxy before it, does not accept this client"),
                "have this machine's address added to the gateway's or the proxy's list; user names \
                 and passwords for proxies are not supported"
                    .to_owned(),
            ),
            502..=504 => (
                format!("HTTP {code}: a balancer answers, but reaches no gateway"),
                "start the gateway, or correct the balancer".to_owned(),
            ),
            _ => (
                format!("HTTP {code} without a gateway's envelope: {unreadable}"),
                format!("check host, port and path in {urls}"),
            ),
        };
        self.problem("answer", found, remedy)
    }

    fn clock(&mut self, headers: &HeaderMap) {
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let Some(theirs) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else {
            return self.ok("clock", "not known: the gateway sends no date");
        };
        let (skew, side) = match theirs.duration_since(SystemTime::now()) {
            Ok(ahead) => (ahead, "ahead of"),
            Err(error) => (error.duration(), "behind"),
        };
        let skew = Duration::from_secs(skew.as_secs());
        if skew > SKEW_MAX {
            let shown = humantime::format_duration(skew);
            let found = format!("the gateway's is {shown} {side} this machine's");
            let remedy = "set both by NTP: certificates are checked by this machine's clock, and \
                          events carry the gateway's time";
            return self.warning("clock", found, remedy);
        }
        self.ok("clock", format!("the gateway's and this machine's agree to {SKEW_MAX:?}"));
    }

    /// Warns if the gateway closes idle connections before the bridge does. A call that uses a
    /// connection just as the gateway closes it needs a new one, and takes longer.
    fn keep_alive(&mut self, headers: &HeaderMap) {
        let idle = self.tenant.timeouts.idle;
        let theirs = headers.get("keep-alive").and_then(|value| value.to_str().ok());
        let seconds = theirs.and_then(|value| {
            let timeout = |part: &str| part.trim().strip_prefix("timeout=")?.parse().ok();
            value.split(',').find_map(timeout)
        });
        if let Some(limit) = seconds.map(Duration::from_secs)
            && limit <= idle
        {
            let found = format!("the gateway closes idle connections after {limit:?}");
            let remedy = format!("set {} below that; it is {idle:?}", self.key("timeouts.idle"));
            self.warning("idle", found, remedy);
        }
    }
}

/// Whether the answer says that there is no such interface, to a question that the gateway is not expected to know.
fn is_of_no_interface(tenant: &Tenant, status: StatusCode) -> bool {
    says_unknown(status) && is_unknown_there(tenant)
}

/// The redirect's target without its query, which may be a secret.
fn location(headers: &HeaderMap) -> String {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.and_then(|text| text.split('?').next());
    location.map_or_else(|| "nowhere".to_owned(), printable)
}
