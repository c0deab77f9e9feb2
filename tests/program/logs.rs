use ccgateway_bridge::rpc::proto::SetBusyRequest;

use crate::support::{Program, within};

#[tokio::test]
async fn a_reader_of_the_log_who_stalls_stops_no_call() {
    let program = Program::start_unread("", &["--log-filter", "trace"]).await;
    program.register(1001).await;
    let mut states = program.states();
    // At this level each call writes some kilobytes, and a pipe holds 64.
    let calls = async {
        for _ in 0..200 {
            let request = SetBusyRequest {
                agent_id: "1001".into(),
                reason: Some(200),
                prolong: Some(true),
                ..<_>::default()
            };
            states.set_busy(request).await.expect("accepted");
        }
    };
    within("two hundred calls", calls).await;
}
