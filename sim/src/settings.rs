//! What a session's agent has set, beside the state.

use super::{options::Options, sign_in::SignIn};

/// What holds for one session.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Calls are answered automatically (`cec_07_1208`).
    pub(super) auto_answer: bool,
    /// Idle after a call, or after-call work (`cec_07_1202`).
    pub(super) auto_idle: bool,
    /// The right to inbound calls (`cec_07_0356`).
    pub(super) takes_calls: bool,
    /// A number that means something to the client alone (`cec_07_1228`).
    pub(super) custom_state: Option<u16>,
    /// The skill queues signed in to (`cec_07_1209`).
    pub(super) skills: Vec<u32>,
}

/// What a resetskill asks for.
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

    /// Signs in to those of the asked-for queues that are configured (`cec_07_1209`).
    pub(super) fn reset_skills(&mut self, asked_for: &SkillsAsked, options: &Options) {
        let wanted = |id: &u32| match asked_for {
            SkillsAsked::All => true,
            SkillsAsked::These(ids) => ids.contains(id),
        };
        self.skills = options.skills.iter().copied().filter(wanted).collect();
    }

    /// Whether calls reach the agent.
    pub(super) fn reachable(&self) -> bool {
        self.takes_calls && !self.skills.is_empty()
    }
}
