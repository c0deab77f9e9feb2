//! The gateway's interfaces, and which of them a request line names.

use serde::{Deserialize, Serialize};

use super::options::{IdOutside, Options};

/// An interface of the gateway that the simulator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Interface {
    /// `PUT onlineagent/{id}` (`cec_07_1202`).
    SignIn,
    /// `PUT onlineagent/{id}/forcelogin` (`cec_07_1203`).
    ForceSignIn,
    /// `DELETE onlineagent/{id}/logout` (`cec_07_1219`).
    SignOut,
    /// `DELETE onlineagent/{id}/forcelogout` (`cec_07_1220`) and
    /// `…/forcelogoutwithreason/{reason}` (`cec_07_1221`).
    ForceSignOut,
    /// `POST onlineagent/{id}/saybusy` (`cec_07_1211`).
    SayBusy,
    /// `POST onlineagent/{id}/cancelbusy` (`cec_07_1212`).
    CancelBusy,
    /// `POST onlineagent/{id}/sayfree` (`cec_07_1210`).
    SayFree,
    /// `POST onlineagent/{id}/work` (`cec_07_1215`).
    Work,
    /// `POST onlineagent/{id}/cancelwork` (`cec_07_1216`).
    CancelWork,
    /// `POST onlineagent/{id}/rest/{time}/{restcause}` (`cec_07_1213`).
    Rest,
    /// `POST onlineagent/{id}/cancelrest` (`cec_07_1214`).
    CancelRest,
    /// `GET onlineagent/{id}/agentstatus` (`cec_07_1222`).
    AgentStatus,
    /// `POST onlineagent/{id}/setcustomstate` (`cec_07_1228`).
    SetCustomState,
    /// `GET onlineagent/{id}/querycustomstate` (`cec_07_1229`).
    QueryCustomState,
    /// `POST onlineagent/{id}/cancelsetcustomstate` (`cec_07_0363`).
    CancelCustomState,
    /// `POST onlineagent/{id}/autoanswer/{isautoanswer}` (`cec_07_1208`).
    AutoAnswer,
    /// `POST onlineagent/{id}/autoenteridle/{flag}` (`cec_07_1218`).
    AutoEnterIdle,
    /// `POST onlineagent/{id}/settalkright` (`cec_07_0356`).
    SetTalkRight,
    /// `POST onlineagent/{id}/resetskill/{autoflag}` (`cec_07_1209`).
    ResetSkill,
    /// `GET onlineagent/{id}/agentskills` (`cec_07_1206`).
    AgentSkills,
    /// `POST qualitycontrol/{id}/forcebusy/{workNo}` (`cec_07_2405`).
    ForceBusy,
    /// `POST qualitycontrol/{id}/forceidle/{workNo}` (`cec_07_2406`).
    ForceIdle,
    /// `POST qualitycontrol/{id}/forcelogout/{workNo}` (`cec_07_2407`).
    InspectorSignOut,
    /// `POST onlineagent/{id}/handshake`, the heartbeat in push mode (`cec_07_1204`).
    Handshake,
    /// `PUT onlineagent/{id}/heartbeat`, its older variant (client).
    Heartbeat,
    /// `PUT onlineagent/{id}/updateGuid` (`cec_07_1225`).
    UpdateGuid,
    /// `GET agentevent/{id}` (`cec_07_1274`).
    Poll,
    /// `GET agentevent/allagentevent` (client).
    PollAll,
}

/// What a request line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// `None`: the interface concerns all agents.
    pub(super) agent: Option<u32>,
    pub(super) interface: Interface,
    /// What follows the interface's name in the path.
    pub(super) tail: Vec<String>,
    /// The query, decoded, in its order.
    pub(super) query: Vec<(String, String)>,
}

/// Why a request line matches no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoute {
    /// HTTP 404.
    NotFound,
    /// HTTP 405.
    WrongMethod,
    /// Retcode 000-002.
    BadId,
}

/// The path before every interface (`cec_07_1202`).
pub(super) const BASE_PATH: &str = "/agentgateway/resource";

/// What stands in an agent's place where a poll is for all of them (client).
const ALL_AGENTS: &str = "allagentevent";

// === impl Interface ===

impl Interface {
    /// Whether it signs an agent in.
    pub(super) fn signs_in(self) -> bool {
        matches!(self, Self::SignIn | Self::ForceSignIn)
    }

    /// Whether it changes the agent's state or settings, so that no two of its kind may be open for one agent
    /// (`cec_07_1202`, `cec_07_1219`, `cec_07_0580`).
    pub(super) fn changes_state(self) -> bool {
        !self.inspects()
            && !matches!(
                self,
                Self::AgentStatus
                    | Self::QueryCustomState
                    | Self::AgentSkills
                    | Self::Handshake
                    | Self::Heartbeat
                    | Self::UpdateGuid
                    | Self::Poll
                    | Self::PollAll
            )
    }

    /// Whether it is an inspector's, about another agent.
    pub(super) fn inspects(self) -> bool {
        matches!(self, Self::ForceBusy | Self::ForceIdle | Self::InspectorSignOut)
    }

    /// Whether it changes what is set for the session, beside the state.
    pub(super) fn changes_settings(self) -> bool {
        matches!(
            self,
            Self::SetCustomState
                | Self::CancelCustomState
                | Self::AutoAnswer
                | Self::AutoEnterIdle
                | Self::SetTalkRight
                | Self::ResetSkill
        )
    }

    /// The interface that an address names, with the method it wants and the path segments that
    /// follow its name.
    fn named(family: &str, name: &str) -> Option<(Self, &'static str, usize)> {
        Some(match (family, name) {
            ("agentevent", "") => (Self::Poll, "GET", 0),
            ("onlineagent", "") => (Self::SignIn, "PUT", 0),
            ("onlineagent", "forcelogin") => (Self::ForceSignIn, "PUT", 0),
            ("onlineagent", "logout") => (Self::SignOut, "DELETE", 0),
            ("onlineagent", "forcelogout") => (Self::ForceSignOut, "DELETE", 0),
            ("onlineagent", "forcelogoutwithreason") => (Self::ForceSignOut, "DELETE", 1),
            ("onlineagent", "saybusy") => (Self::SayBusy, "POST", 0),
            ("onlineagent", "cancelbusy") => (Self::CancelBusy, "POST", 0),
            ("onlineagent", "sayfree") => (Self::SayFree, "POST", 0),
            ("onlineagent", "work") => (Self::Work, "POST", 0),
            ("onlineagent", "cancelwork") => (Self::CancelWork, "POST", 0),
            ("onlineagent", "rest") => (Self::Rest, "POST", 2),
            ("onlineagent", "cancelrest") => (Self::CancelRest, "POST", 0),
            ("onlineagent", "agentstatus") => (Self::AgentStatus, "GET", 0),
            ("onlineagent", "setcustomstate") => (Self::SetCustomState, "POST", 0),
            ("onlineagent", "querycustomstate") => (Self::QueryCustomState, "GET", 0),
            ("onlineagent", "cancelsetcustomstate") => (Self::CancelCustomState, "POST", 0),
            ("onlineagent", "autoanswer") => (Self::AutoAnswer, "POST", 1),
            ("onlineagent", "autoenteridle") => (Self::AutoEnterIdle, "POST", 1),
            ("onlineagent", "settalkright") => (Self::SetTalkRight, "POST", 0),
            ("onlineagent", "resetskill") => (Self::ResetSkill, "POST", 1),
            ("onlineagent", "agentskills") => (Self::AgentSkills, "GET", 0),
            ("qualitycontrol", "forcebusy") => (Self::ForceBusy, "POST", 1),
            ("qualitycontrol", "forceidle") => (Self::ForceIdle, "POST", 1),
            ("qualitycontrol", "forcelogout") => (Self::InspectorSignOut, "POST", 1),
            ("onlineagent", "handshake") => (Self::Handshake, "POST", 0),
            ("onlineagent", "heartbeat") => (Self::Heartbeat, "PUT", 0),
            ("onlineagent", "updateGuid") => (Self::UpdateGuid, "PUT", 0),
            _ => return None,
        })
    }
}

// === impl Route ===

impl Route {
    /// Finds the route of a request line.
    pub(super) fn find(method: &str, target: &str, options: &Options) -> Result<Self, NoRoute> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = path.strip_prefix(BASE_PATH).ok_or(NoRoute::NotFound)?;
        let mut segments = path.split('/').skip(1);
        let family = segments.next().ok_or(NoRoute::NotFound)?;
        let id = segments.next().ok_or(NoRoute::NotFound)?;
        let name = segments.next().unwrap_or_default();
        let tail: Vec<String> = segments.map(decode).collect();

        let (interface, wanted, length) =
            Interface::named(family, name).ok_or(NoRoute::NotFound)?;
        if tail.len() != length {
            return Err(NoRoute::NotFound);
        }
        if method != wanted {
            return Err(NoRoute::WrongMethod);
        }
        if interface == Interface::Poll && id == ALL_AGENTS {
            let query = pairs(query);
            return Ok(Self { agent: None, interface: Interface::PollAll, tail, query });
        }
        let agent = agent_id(id, options).ok_or(match options.id_outside {
            IdOutside::NotFound => NoRoute::NotFound,
            IdOutside::Refused => NoRoute::BadId,
        })?;
        Ok(Self { agent: Some(agent), interface, tail, query: pairs(query) })
    }

    /// A query parameter; an empty one counts as left out (`cec_07_1211`).
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| &**value).filter(|v| !v.is_empty())
    }
}

fn agent_id(text: &str, options: &Options) -> Option<u32> {
    let digits = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    let id = text.parse().ok().filter(|_| digits)?;
    options.agent_ids.contains(&id).then_some(id)
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let pair = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (decode(key), decode(value))
    };
    query.split('&').filter(|text| !text.is_empty()).map(pair).collect()
}

/// Undoes percent encoding; what is none stays as it is.
fn decode(text: &str) -> String {
    let mut decoded = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| byte == b'%');
        let value = hex.and_then(|hex| u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok());
        rest = after.get(if value.is_some() { 2 } else { 0 }..).unwrap_or_default();
        decoded.push(value.unwrap_or(if byte == b'+' { b' ' } else { byte }));
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &str, tail: &str, expected: Result<(u32, Interface), NoRoute>) {
        let expected = expected.map(|(agent, interface)| (Some(agent), interface));
        let target = format!("{BASE_PATH}/{tail}");
        let found = Route::find(method, &target, &Options::default());
        assert_eq!(found.map(|route| (route.agent, route.interface)), expected, "{method} {tail}");
    }

    #[test]
    fn routes_follow_the_documented_addresses() {
        check("PUT", "onlineagent/291", Ok((291, Interface::SignIn)));
        check("GET", "agentevent/59999?calldata=", Ok((59_999, Interface::Poll)));
        check("POST", "onlineagent/7/rest/60/0?prolong=true", Ok((7, Interface::Rest)));
        check("POST", "qualitycontrol/7/forcebusy/8", Ok((7, Interface::ForceBusy)));
        check("POST", "onlineagent/7/rest/60", Err(NoRoute::NotFound));
        check("GET", "onlineagent/7/saybusy", Err(NoRoute::WrongMethod));
        check("GET", "onlineagent/7/nothing", Err(NoRoute::NotFound));
        for id in ["0", "0291", "60000", "%2e", "+5", ""] {
            check("PUT", &format!("onlineagent/{id}"), Err(NoRoute::NotFound));
        }
    }

    #[test]
    fn parameters_are_decoded_and_empty_ones_left_out() {
        let target = format!("{BASE_PATH}/onlineagent/7/saybusy?reason=%32%300&prolong=&x=%zz");
        let route = Route::find("POST", &target, &Options::default()).unwrap();
        assert_eq!(route.parameter("reason"), Some("200"));
        assert_eq!(route.parameter("prolong"), None);
        assert_eq!(route.parameter("x"), Some("%zz"));
    }
}
