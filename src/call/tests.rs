use super::*;

#[test]
fn a_refusal_tells_whether_another_sign_in_would_do_harm() {
    for (retcode, is_rejected, is_elsewhere) in [
        ("100-004", true, false),
        ("110-016", true, false),
        ("100-002", false, true),
        ("100-015", false, true),
        ("100-003", false, false),
        ("999-999", false, false),
    ] {
        let retcode = Retcode::refusal(retcode).expect("a refusal");
        let (message, node) = (String::new(), None);
        let error = CallError::Refused(Refusal { retcode, message, node, http_status: 200 });
        let told = (error.is_credentials_rejected(), error.is_signed_in_elsewhere());
        assert_eq!(told, (is_rejected, is_elsewhere), "{error}");
        let before = Obstacle::from(error);
        let told = (before.is_credentials_rejected(), before.is_signed_in_elsewhere());
        assert_eq!(told, (is_rejected, is_elsewhere), "a sign-in that had to come first: {before}");
    }
    let unasked = CallError::unasked(Obstacle::ShuttingDown);
    assert!(!unasked.is_credentials_rejected() && !unasked.is_signed_in_elsewhere());
}

#[test]
fn three_limits_are_one_callers_own() {
    let own = Share::ALL.into_iter().filter(|share| share.is_callers_own());
    let own: Vec<_> = own.map(Share::as_str).collect();
    assert_eq!(own, ["connection_requests_per_second", "caller_calls", "agent_queue"]);
}
