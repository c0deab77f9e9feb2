//! The values of `--code`.

use super::{StartError, wrong};
use crate::Codes;

/// Reads every CASE=RETCODE.
pub(super) fn read(texts: &[String]) -> Result<Codes, StartError> {
    let mut codes = Codes::default();
    for text in texts {
        let bad = |why| wrong("--code", text, why);
        let (case, code) = text.split_once('=').ok_or_else(|| bad("write CASE=RETCODE"))?;
        if case == "free-while-idle" {
            codes.free_while_idle = (code != "0").then(|| code.to_owned());
            continue;
        }
        let place = place(&mut codes, case)
            .ok_or_else(|| bad("there is no such case; --help lists them"))?;
        code.clone_into(place);
    }
    Ok(codes)
}

fn place<'a>(codes: &'a mut Codes, case: &str) -> Option<&'a mut String> {
    Some(match case {
        "guid-missing" => &mut codes.guid_missing,
        "guid-unknown" => &mut codes.guid_unknown,
        "guid-expired" => &mut codes.guid_expired,
        "guid-taken-over" => &mut codes.guid_taken_over,
        "guid-foreign" => &mut codes.guid_foreign,
        "not-signed-in" => &mut codes.not_signed_in,
        "agent-unknown" => &mut codes.agent_unknown,
        "busy-again" => &mut codes.busy_again,
        "state-refused" => &mut codes.state_refused,
        "no-inspector" => &mut codes.no_inspector,
        "target-absent" => &mut codes.target_absent,
        "target-state" => &mut codes.target_state,
        "target-unknown" => &mut codes.target_unknown,
        "sign-out-while-talking" => &mut codes.sign_out_while_talking,
        "repeated-call" => &mut codes.repeated_call,
        "no-interface" => &mut codes.no_interface,
        "repeated-sign-in" => &mut codes.repeated_sign_in,
        _ => return None,
    })
}
