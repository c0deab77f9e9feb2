//! The gateway's interfaces.

use serde::{Deserialize, Serialize};

/// An interface of the gateway that the simulator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Interface {
    /// `PUT onlineagent/{id}` (`cec_07_1202`).
    SignIn,
    /// `PUT onlineagent/{id}/forcelogin` (`cec_07_1203`).
    ForceSignIn,
    /// `PUT onlineagent/{id}/loginex`, a sign-in to the platform alone (`cec_07_1224`).
    SignInEx,
    /// `PUT onlineagent/loginbyaccount` (client).
    SignInByAccount,
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
    /// `GET onlineagent/{id}/agentskillsbyworkno/{workno}` (`cec_07_1207`).
    AgentSkillsByWorkNo,
    /// `GET agentgroup/{id}/allagentstatus` (client).
    AllAgentStatus,
    /// `GET agentgroup/{id}/idleagent` (client).
    IdleAgents,
    /// `GET agentgroup/{id}/agentlistbystatus?status=` (client).
    AgentsByStatus,
    /// `GET agentgroup/{id}/restreason` (client).
    RestReasons,
    /// `GET agentgroup/{id}/iscensor`: whether the agent is an inspector (client).
    IsInspector,
    /// `GET queuedevice/{id}/waitnum` (client).
    WaitNumber,
    /// `POST qualitycontrol/{id}/forcebusy/{workNo}` (`cec_07_2405`).
    ForceBusy,
    /// `POST qualitycontrol/{id}/forceidle/{workNo}` (`cec_07_2406`).
    ForceIdle,
    /// `POST qualitycontrol/{id}/forcelogout/{workNo}` (`cec_07_2407`).
    InspectorSignOut,
    /// `POST qualitycontrol/{id}/forcerest/{workNo}/{time}/{reason}` (client).
    ForceRest,
    /// `POST qualitycontrol/{id}/beginmonitor?agents=a;b` (client).
    BeginMonitor,
    /// `POST qualitycontrol/{id}/endmonitor?agents=a;b` (client).
    EndMonitor,
    /// `POST onlineagent/{id}/modifyaccountpwdex` with a body, and the same below `qualitycontrol`
    /// (client).
    ChangePassword,
    /// `POST onlineagent/{id}/modifyaccountpwd?oldpassword=&newpassword=&repassword=`, the older form, and
    /// the same below `qualitycontrol` (client; the method is inferred).
    ChangePasswordByQuery,
    /// `POST onlineagent/{id}/handshake`, the heartbeat in push mode (`cec_07_1204`).
    Handshake,
    /// `PUT onlineagent/{id}/heartbeat`, the older variant of handshake (client).
    Heartbeat,
    /// `PUT onlineagent/{id}/updateGuid` (`cec_07_1225`).
    UpdateGuid,
    /// `GET agentevent/{id}` (`cec_07_1274`).
    Poll,
    /// `GET agentevent/allagentevent` (client).
    PollAll,
}

// === impl Interface ===

impl Interface {
    /// Whether the interface signs an agent in.
    pub(super) fn signs_in(self) -> bool {
        matches!(self, Self::SignIn | Self::ForceSignIn | Self::SignInEx | Self::SignInByAccount)
    }

    /// Whether the interface changes the agent's state or settings. Only one call of these interfaces
    /// may be open for an agent (`cec_07_1202`, `cec_07_1219`, `cec_07_0580`).
    pub(super) fn changes_state(self) -> bool {
        !self.inspects()
            && !self.asks_about_group()
            && !matches!(
                self,
                Self::AgentStatus
                    | Self::QueryCustomState
                    | Self::AgentSkills
                    | Self::AgentSkillsByWorkNo
                    | Self::BeginMonitor
                    | Self::EndMonitor
                    | Self::ChangePassword
                    | Self::ChangePasswordByQuery
                    | Self::Handshake
                    | Self::Heartbeat
                    | Self::UpdateGuid
                    | Self::Poll
                    | Self::PollAll
            )
    }

    /// Whether the interface is an inspector's operation on another agent.
    pub(super) fn inspects(self) -> bool {
        matches!(self, Self::ForceBusy | Self::ForceIdle | Self::ForceRest | Self::InspectorSignOut)
    }

    /// Whether the interface asks about all agents, or about what is configured for them.
    pub(super) fn asks_about_group(self) -> bool {
        matches!(
            self,
            Self::AllAgentStatus
                | Self::IdleAgents
                | Self::AgentsByStatus
                | Self::RestReasons
                | Self::IsInspector
                | Self::WaitNumber
        )
    }

    /// Whether the interface changes the session's settings, and not the agent's state.
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

    /// The interface with this name in the path, with its HTTP method and the number of path segments
    /// after the name.
    pub(super) fn named(family: &str, name: &str) -> Option<(Self, &'static str, usize)> {
        Some(match (family, name) {
            ("agentevent", "") => (Self::Poll, "GET", 0),
            ("onlineagent", "") => (Self::SignIn, "PUT", 0),
            ("onlineagent", "forcelogin") => (Self::ForceSignIn, "PUT", 0),
            ("onlineagent", "loginex") => (Self::SignInEx, "PUT", 0),
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
            ("onlineagent", "agentskillsbyworkno") => (Self::AgentSkillsByWorkNo, "GET", 1),
            ("agentgroup", "allagentstatus") => (Self::AllAgentStatus, "GET", 0),
            ("agentgroup", "idleagent") => (Self::IdleAgents, "GET", 0),
            ("agentgroup", "agentlistbystatus") => (Self::AgentsByStatus, "GET", 0),
            ("agentgroup", "restreason") => (Self::RestReasons, "GET", 0),
            ("agentgroup", "iscensor") => (Self::IsInspector, "GET", 0),
            ("queuedevice", "waitnum") => (Self::WaitNumber, "GET", 0),
            ("qualitycontrol", "forcerest") => (Self::ForceRest, "POST", 3),
            ("qualitycontrol", "beginmonitor") => (Self::BeginMonitor, "POST", 0),
            ("qualitycontrol", "endmonitor") => (Self::EndMonitor, "POST", 0),
            ("qualitycontrol", "forcebusy") => (Self::ForceBusy, "POST", 1),
            ("qualitycontrol", "forceidle") => (Self::ForceIdle, "POST", 1),
            ("qualitycontrol", "forcelogout") => (Self::InspectorSignOut, "POST", 1),
            ("onlineagent" | "qualitycontrol", "modifyaccountpwdex") => {
                (Self::ChangePassword, "POST", 0)
            }
            ("onlineagent" | "qualitycontrol", "modifyaccountpwd") => {
                (Self::ChangePasswordByQuery, "POST", 0)
            }
            ("onlineagent", "handshake") => (Self::Handshake, "POST", 0),
            ("onlineagent", "heartbeat") => (Self::Heartbeat, "PUT", 0),
            ("onlineagent", "updateGuid") => (Self::UpdateGuid, "PUT", 0),
            _ => return None,
        })
    }
}
