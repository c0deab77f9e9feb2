//! Completions and man pages.

use ccgateway_bridge::version::{DAY, NUMBER};
use ccgateway_test_support::run;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::bridge;

async fn printed(args: &[&str]) -> String {
    let mut command = bridge();
    command.args(args);
    let (code, printed) = run(command).await;
    assert_eq!(code, Some(0), "{printed}");
    printed
}

#[tokio::test]
async fn bash_completes_commands_and_flags() {
    let files = TempDir::new().expect("a folder");
    let script = files.path().join("completions.bash");
    std::fs::write(&script, printed(&["completions", "bash"]).await).expect("written");
    let file = script.display().to_string();
    let (begun, folder) = (file.trim_end_matches("ash"), files.path().display());
    for (words, expected) in [
        ("serve --log-format j", "json"),
        ("call get-state --agent 10", "10"),
        (&*format!("call get-state --agent 1001 --ca {begun}"), &*file),
        (&format!("doctor --config {begun}"), &file),
        // The shell itself adds folders.
        (&format!("man --dir {folder}/"), ""),
        ("doc", "doctor"),
        ("call set-b", "set-busy"),
        ("call set-busy --confirm", "--confirm-within"),
        ("call reg", "register-session"),
        ("call register-session --guid-f", "--guid-file"),
        ("call batch", "batch-set-busy"),
        ("check-c", "check-config"),
    ] {
        let typed: Vec<_> = words.split(' ').collect();
        let (last, before) = (typed.last().expect("a word"), typed.len());
        let previous = typed.iter().rev().nth(1).unwrap_or(&"ccgateway-bridge");
        let ask = format!(
            "source {0} && [[ $(complete -p ccgateway-bridge) =~ -F\\ ([^ ]+) ]] && \
             COMP_WORDS=(ccgateway-bridge {words}) COMP_CWORD={before} && \
             ${{BASH_REMATCH[1]}} ccgateway-bridge {last} {previous} 2>/dev/null; echo \"${{COMPREPLY[*]}}\"",
            script.display()
        );
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", &ask]);
        let (code, completed) = run(bash).await;
        assert_eq!((code, completed.trim()), (Some(0), expected), "{words}");
    }
    for shell in ["zsh", "fish"] {
        assert!(printed(&["completions", shell]).await.contains("watch-events"), "{shell}");
    }
}

#[tokio::test]
async fn every_command_has_a_man_page() {
    let page = printed(&["man"]).await;
    let (title, source) = (".TH ccgateway-bridge 1", format!("\"ccgateway-bridge {NUMBER}\""));
    let titled = page.lines().find(|line| line.starts_with(title)).expect("a title");
    // Sources without a repository may have no day.
    assert!(titled.contains(DAY) && titled.contains(&source), "{titled}");
    assert!(page.contains("CCGW_CONFIG") && page.contains("NO_COLOR"), "{page}");
    let page = printed(&["man", "call", "set-busy"]).await;
    for part in [
        "confirm\\-within",
        "4\\fR\naccepted, but not confirmed within",
        "CCGW_CALL_ADDR",
        "ccgateway\\-bridge call set\\-busy \\-\\-agent 1001",
        "\\fBccgateway\\-bridge\\-call\\fR(1)",
    ] {
        assert!(page.contains(part), "{part} in: {page}");
    }

    let files = TempDir::new().expect("a folder");
    printed(&["man", "--dir", &files.path().display().to_string()]).await;
    for name in [
        "ccgateway-bridge.1",
        "ccgateway-bridge-call-set-busy.1",
        "ccgateway-bridge-call-batch-set-busy.1",
    ] {
        let page = std::fs::read_to_string(files.path().join(name)).expect(name);
        for section in ["NAME", "SYNOPSIS", "EXIT STATUS", "ENVIRONMENT", "EXAMPLES", "SEE ALSO"] {
            let heading = [format!(".SH {section}\n"), format!(".SH \"{section}\"\n")];
            assert!(heading.iter().any(|heading| page.contains(heading)), "{section} of {name}");
        }
    }
    let mut command = bridge();
    command.args(["man", "call", "nothing"]);
    let (code, printed) = run(command).await;
    assert_eq!(code, Some(2), "{printed}");
}
