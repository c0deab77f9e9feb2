//! What a session's agent has set, beside the state.

use super::{options::Options, sign_in::SignIn};

/// What holds for one session.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Idle after a call, or after-call work (`cec_07_1202`).
    pub(super) auto_idle: bool,
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
        Self { auto_idle: sign_in.auto_idle, skills }
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
        !self.skills.is_empty()
    }
}
