//! The settings of a session, apart from the agent's state.

use super::{options::Options, sign_in::SignIn};

/// The settings of one session.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Whether calls are answered automatically (`cec_07_1208`).
    pub(super) auto_answer: bool,
    /// Whether the agent is idle after a call, and not in after-call work (`cec_07_1202`).
    pub(super) auto_idle: bool,
    /// Whether the agent takes inbound calls (`cec_07_0356`).
    pub(super) takes_calls: bool,
    /// A number whose meaning only the client knows (`cec_07_1228`).
    pub(super) custom_state: Option<u16>,
    /// The skill queues signed in to (`cec_07_1209`).
    pub(super) skills: Vec<u32>,
}

/// The skills that a resetskill names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SkillsAsked {
    All,
    These(Vec<u32>),
}

// === impl Settings ===

impl Settings {
    pub(super) fn begin(sign_in: &SignIn, options: &Options) -> Self {
        let skills = if options.skills_need_reset { Vec::new() } else { options.skills.clone() };
        Self {
            auto_answer: sign_in.auto_answer,
            auto_idle: sign_in.auto_idle,
            takes_calls: true,
            custom_state: None,
            skills,
        }
    }

    /// Signs in to the named queues, as far as they are configured (`cec_07_1209`).
    pub(super) fn reset_skills(&mut self, asked_for: &SkillsAsked, options: &Options) {
        let wanted = |id: &u32| match asked_for {
            SkillsAsked::All => true,
            SkillsAsked::These(ids) => ids.contains(id),
        };
        self.skills = options.skills.iter().copied().filter(wanted).collect();
    }

    /// Whether calls can reach the agent.
    pub(super) fn reachable(&self) -> bool {
        self.takes_calls && !self.skills.is_empty()
    }
}
