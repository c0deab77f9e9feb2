//! A session and its Guids: when a Guid is made, how long it is accepted, when it is sent.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use uuid::Uuid;

use super::{
    options::{Announce, AuthMode, Options},
    retcode::Retcode,
    settings::Settings,
    sign_in::SignIn,
};

/// One agent's session, from sign-in to sign-out.
#[derive(Debug)]
pub(super) struct Session {
    /// Tells the sessions of one agent apart.
    pub(super) number: u64,
    /// Epoch milliseconds, as the sign-in result gives them (`cec_07_1202`).
    pub(super) login_time: String,
    pub(super) settings: Settings,
    /// Whether the session is in push mode: events are sent by callback, and polls are refused
    /// (`cec_07_1202`).
    pub(super) push: bool,
    /// Whether the session is in the older form of push mode.
    pub(super) is_older_push: bool,
    /// When the agent last polled, or in push mode sent a heartbeat; at first, when it signed in.
    pub(super) last_heartbeat: Instant,
    node: u64,
    guids: Vec<Issued>,
    due: Due,
}

/// Which answer brings the session's owner the next Guid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// None: the current Guid has been sent.
    Nowhere,
    /// The next poll's: the current Guid has not been sent.
    Poll,
    /// The next answer of any interface, with a Guid that is made for it.
    Reply,
}

/// How the gateway treats a Guid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    Ended,
    TakenOver,
    /// Lost in a switch-over, with the code that says so.
    Lost(Retcode),
    Unknown,
}

#[derive(Debug)]
struct Issued {
    guid: String,
    at: Instant,
    dead: bool,
}

/// How many Guids of a session are remembered, to tell expired ones from unknown ones.
const REMEMBERED: usize = 32;

// === impl Session ===

impl Session {
    pub(super) fn begin(number: u64, sign_in: &SignIn, options: &Options) -> Self {
        let mut session = Self {
            number,
            login_time: epoch_ms().to_string(),
            settings: Settings::begin(sign_in, options),
            push: sign_in.push,
            is_older_push: sign_in.push_url.is_some(),
            last_heartbeat: Instant::now(),
            node: number % u64::from(options.nodes.max(1)),
            guids: Vec::new(),
            due: Due::Nowhere,
        };
        session.hand_out(options);
        session
    }

    /// The newest Guid.
    pub(super) fn current(&self) -> &str {
        self.guids.last().map_or("", |issued| &issued.guid)
    }

    /// The number of the node that has the session.
    pub(super) fn node(&self) -> u64 {
        self.node
    }

    /// Makes a new Guid the current one; the next poll's answer brings it.
    pub(super) fn renew(&mut self, options: &Options) -> String {
        if !options.old_guid_lives {
            self.expire();
        }
        if self.guids.len() == REMEMBERED {
            self.guids.remove(0);
        }
        let guid = format!("{}.AgentGateway{}", Uuid::new_v4(), self.node);
        self.guids.push(Issued { guid: guid.clone(), at: Instant::now(), dead: false });
        if self.due == Due::Nowhere {
            self.due = Due::Poll;
        }
        guid
    }

    /// Makes every Guid of the session invalid. The session itself goes on.
    pub(super) fn expire(&mut self) {
        for issued in &mut self.guids {
            issued.dead = true;
        }
    }

    pub(super) fn standing(&self, guid: &str, options: &Options) -> Standing {
        let Some(issued) = self.guids.iter().find(|issued| issued.guid == guid) else {
            return Standing::Unknown;
        };
        let aged = options.auth_mode == AuthMode::Dynamic
            && issued.at.elapsed() >= options.real(options.guid_timeout);
        if issued.dead || aged { Standing::Ended } else { Standing::Good }
    }

    /// The new Guid for the answer to a poll that came with `presented`, if any. Guids change by
    /// themselves only in polls (`cec_07_0005`).
    pub(super) fn announce(&mut self, presented: &str, options: &Options) -> Option<String> {
        if options.auth_mode == AuthMode::None {
            return None;
        }
        let due = |issued: &Issued| issued.at.elapsed() >= options.real(options.guid_interval);
        if options.auth_mode == AuthMode::Dynamic && self.guids.last().is_some_and(due) {
            self.renew(options);
        }
        let unsent = self.due == Due::Poll;
        let unused = options.announce == Announce::UntilUsed && presented != self.current();
        (unsent || unused).then(|| {
            self.due = Due::Nowhere;
            self.current().to_owned()
        })
    }

    pub(super) fn renew_on_next_reply(&mut self) {
        self.due = Due::Reply;
    }

    /// A new Guid for the present answer, if [`Session::renew_on_next_reply`] asked for one.
    pub(super) fn announce_anywhere(&mut self, options: &Options) -> Option<String> {
        let is_due = self.due == Due::Reply && options.auth_mode != AuthMode::None;
        is_due.then(|| self.hand_out(options))
    }

    /// Makes a new Guid that is sent to its owner at once.
    pub(super) fn hand_out(&mut self, options: &Options) -> String {
        let guid = self.renew(options);
        self.due = Due::Nowhere;
        guid
    }
}

/// Milliseconds since 1970.
pub(super) fn epoch_ms() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis())
}
