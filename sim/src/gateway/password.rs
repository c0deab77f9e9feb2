//! Changes of an agent's own password (client). The retcodes follow from their meanings, and the order of the
//! checks is made up. A rule for passwords beyond their length (110-019) and the number of wrong attempts that
//! lock an account (110-021) are not known, so nothing is refused with these.

use super::{
    Records,
    parameters::{bad_parameter, refuse_unless},
};
use crate::{
    agent::{Refused, name},
    interface::Interface,
    options::Options,
    reply::Reply,
    retcode::Retcode,
    route::Route,
    sign_in::member,
};

/// The passwords of a request.
struct Passwords {
    old: String,
    new: String,
    /// The new one again, if the request has it twice.
    again: Option<String>,
}

/// The longest text that is read as a password.
const LONGEST: usize = 100;

// === impl Records ===

impl Records {
    /// The password of an agent; `None` if the gateway does not have this agent.
    pub(super) fn password<'a>(&'a self, agent: u32, options: &'a Options) -> Option<&'a str> {
        self.passwords.get(&agent).map(String::as_str).or_else(|| options.password(agent))
    }

    /// Changes the agent's password, which its next sign-in needs. The session goes on (inferred).
    pub(super) fn change_password(
        &mut self,
        agent: u32,
        route: &Route,
        body: &[u8],
        options: &Options,
    ) -> Result<Reply, Refused> {
        let Passwords { old, new, again } = match route.interface {
            Interface::ChangePassword => Passwords::of_body(body)?,
            _ => Passwords::of_query(route)?,
        };
        let is_old = self.password(agent, options) == Some(old.as_str());
        refuse_unless(is_old, Retcode::OldPasswordWrong)?;
        refuse_unless(again.is_none_or(|again| again == new), Retcode::PasswordsDiffer)?;
        refuse_unless((8..=30).contains(&new.chars().count()), Retcode::PasswordLength)?;
        refuse_unless(new != old, Retcode::PasswordUnchanged)?;
        let reversed: String = new.chars().rev().collect();
        let is_name = [&new, &reversed].contains(&&name(agent));
        refuse_unless(!is_name, Retcode::PasswordIsName)?;
        self.passwords.insert(agent, new);
        Ok(Reply::accepted(options))
    }
}

// === impl Passwords ===

impl Passwords {
    fn of_body(body: &[u8]) -> Result<Self, Refused> {
        let field = |name| member(body, name, LONGEST)?.ok_or_else(bad_parameter);
        Ok(Self { old: field("oldPassword")?, new: field("newPassword")?, again: None })
    }

    fn of_query(route: &Route) -> Result<Self, Refused> {
        let field = |name| route.parameter(name).map(str::to_owned).ok_or_else(bad_parameter);
        let again = Some(field("repassword")?);
        Ok(Self { old: field("oldpassword")?, new: field("newpassword")?, again })
    }
}
