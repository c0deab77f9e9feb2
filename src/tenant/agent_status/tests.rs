use super::*;
use crate::{call::Refusal, retcode::Retcode};

fn refusal(retcode: &str, http_status: u16) -> CallError {
    let retcode = Retcode::refusal(retcode).expect("a retcode");
    CallError::Refused(Refusal { retcode, message: String::new(), node: None, http_status })
}

#[test]
fn a_gateway_that_does_not_know_the_address_has_no_such_interface() {
    for answer in [
        CallError::HttpStatus { status: 404 },
        CallError::HttpStatus { status: 405 },
        CallError::HttpStatus { status: 501 },
        // There is no parameter that it could mean.
        refusal("100-001", 200),
        refusal("999-999", 404),
    ] {
        let expected = answer.to_string();
        let error = read(Err(answer)).expect_err("no status");
        let CallError::NoSuchInterface { interface, answer } = error else { panic!("{error}") };
        assert_eq!((interface, answer.to_string()), (AGENT_STATUS.log_name, expected));
    }
}

#[test]
fn what_says_nothing_about_the_interface_is_told_as_it_came() {
    for answer in [
        CallError::HttpStatus { status: 503 },
        CallError::Internal,
        refusal("999-999", 200),
        refusal("000-003", 404),
    ] {
        let expected = answer.to_string();
        assert_eq!(read(Err(answer)).expect_err("no status").to_string(), expected);
    }
}
