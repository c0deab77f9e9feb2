//! Agents who change their passwords.

use serde_json::json;

use super::{
    client::{Agent, SIGN_IN, call},
    start,
};

impl Agent<'_> {
    async fn change(&self, tail: &str, old: &str, new: &str) -> String {
        let line = format!("POST {}", tail.replace("{id}", &self.id.to_string()));
        let body = json!({"oldPassword": old, "newPassword": new}).to_string();
        call(self.sim, &line, &self.header(), &body).await.unwrap().retcode()
    }
}

#[tokio::test]
async fn a_changed_password_is_the_one_to_sign_in_with() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    let other = Agent::sign_in(&sim, 8).await;
    assert_eq!(
        agent.change("onlineagent/{id}/modifyaccountpwdex", "secret", "secret-2").await,
        "0"
    );
    let query = "oldpassword=secret-2&newpassword=secret%203&repassword=secret%203";
    assert_eq!(agent.post(&format!("modifyaccountpwd?{query}")).await, "0");
    assert_eq!(agent.post("saybusy").await, "0", "the session goes on");
    let inspectors = "qualitycontrol/{id}/modifyaccountpwdex";
    assert_eq!(other.change(inspectors, "secret", "secret-4").await, "0");
    for agent in [agent, other] {
        assert_eq!(agent.call("DELETE", "logout").await.retcode(), "0");
    }
    sim.restart(true).await.unwrap();
    for (id, password, retcode) in [
        (7, "secret", "100-004"),
        (7, "secret-2", "100-004"),
        (7, "secret 3", "0"),
        (8, "secret-4", "0"),
        (9, "secret", "0"),
    ] {
        let body = SIGN_IN.replace("secret", password);
        let reply = call(&sim, &format!("PUT onlineagent/{id}"), "", &body).await.unwrap();
        assert_eq!(reply.retcode(), retcode, "{id} {password}");
    }
}

#[tokio::test]
async fn each_mistake_in_a_change_of_a_password_has_its_own_code() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 1001).await;
    let by_body = "onlineagent/{id}/modifyaccountpwdex";
    for (old, new, retcode) in [
        ("wrong", "secret-2", "110-003"),
        ("secret", "secret7", "110-020"),
        ("secret", &"x".repeat(31), "110-020"),
        ("secret", "agent 1001", "110-018"),
        ("secret", "1001 tnega", "110-018"),
        ("secret", "secret-2", "0"),
        ("secret-2", "secret-2", "110-017"),
    ] {
        assert_eq!(agent.change(by_body, old, new).await, retcode, "{old} {new}");
    }
    for (query, retcode) in [
        ("oldpassword=secret-2&newpassword=secret-3&repassword=secret-4", "110-022"),
        ("oldpassword=secret-2&newpassword=secret-3", "000-002"),
        ("", "000-002"),
    ] {
        assert_eq!(agent.post(&format!("modifyaccountpwd?{query}")).await, retcode, "{query}");
    }
    let line = "POST onlineagent/1001/modifyaccountpwdex";
    for (body, retcode) in [("", "000-006"), ("{}", "000-002")] {
        let reply = call(&sim, line, &agent.header(), body).await.unwrap();
        assert_eq!(reply.retcode(), retcode);
    }
    assert_eq!(call(&sim, line, "", "{}").await.unwrap().retcode(), "000-003");
}
