use std::{collections::HashMap, fs, path::PathBuf};

use tokio::time::advance;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;
use crate::{command::call::Mistake, rpc::ERROR_DOMAIN};

fn options(token_file: Option<PathBuf>) -> Options {
    Options {
        tenant: String::new(),
        addr: "127.0.0.1:1".to_owned(),
        ca: None,
        server_name: None,
        certificate: None,
        key: None,
        token_file,
        insecure_plaintext: true,
        deadline: None,
        json: false,
    }
}

/// A watch that has just got something.
fn watching(options: &Options) -> Watching<'_> {
    let clients = Clients::connect(options);
    let clients = clients.unwrap_or_else(|Mistake(mistake)| panic!("{mistake}"));
    let (heard, goes_on) = (Some(Instant::now()), false);
    Watching { clients, options, agents: Vec::new(), position: None, until: None, heard, goes_on }
}

/// The bridge takes the token no more.
fn unknown() -> Failure {
    let (reason, metadata) = (&reason::CALLER_UNKNOWN, HashMap::<String, String>::new());
    let details = ErrorDetails::with_error_info(reason.name, ERROR_DOMAIN, metadata);
    let status = Status::with_error_details(reason.code, "it has expired", details);
    failure::from_bridge(&status).expect("of a bridge")
}

impl Watching<'_> {
    fn goes_on_after(&mut self, failure: &Failure) -> bool {
        let has_another_token = self.clients.read_token_again(self.options);
        self.may_pass(failure, has_another_token)
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_waits_a_while_for_a_token_that_is_replaced_too_late() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    fs::write(&file, "first").expect("written");
    let options = options(Some(file.clone()));
    let (mut watching, unknown) = (watching(&options), unknown());
    assert!(watching.goes_on_after(&unknown), "it is as it was");
    fs::write(&file, "").expect("written");
    assert!(watching.goes_on_after(&unknown), "it is being written");
    fs::remove_file(&file).expect("removed");
    assert!(watching.goes_on_after(&unknown), "there is none");
    advance(TOKEN_WAIT).await;
    assert!(!watching.goes_on_after(&unknown), "it does not come");
    fs::write(&file, "second").expect("written");
    assert!(watching.goes_on_after(&unknown), "there is another one");
    watching.heard = None;
    assert!(!watching.goes_on_after(&unknown), "it was never accepted");
}

#[tokio::test(start_paused = true)]
async fn a_watch_without_a_token_does_not_wait_for_one() {
    let options = options(None);
    assert!(!watching(&options).goes_on_after(&unknown()));
}
