//! The README's tour, word for word: what it shows is what a reader sees.

use tokio::process::Command;

use crate::{
    demo::{FREE, demo, stop, with_path},
    grpcurl::tool,
    support::run,
};

/// Commands of the README with what it says that they print, in their order.
fn tour() -> Vec<(&'static str, String)> {
    let readme = include_str!("../../README.md");
    let blocks = readme.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut tour: Vec<(&str, String)> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        match (line.strip_prefix("$ "), tour.last_mut()) {
            (Some(command), _) => tour.push((command, String::new())),
            (None, Some((_, printed))) => printed.extend([line, "\n"]),
            (None, None) => panic!("{line:?} comes before any command"),
        }
    }
    tour
}

fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn the_tour_prints_what_the_readme_says() {
    let (child, printed) = demo(&FREE).await;
    let after = |words: &str| {
        let rest = printed.split(words).nth(1).unwrap_or_else(|| panic!("{words} in {printed}"));
        rest.split_whitespace().next().expect("an address").trim_end_matches('/').to_owned()
    };
    let (grpc, control) = (after("gRPC on "), after("control on http://"));
    let tour = tour();
    assert!(tour.len() > 8, "{tour:?}");
    for (command, expected) in tour {
        let here = command.replace("127.0.0.1:50051", &grpc).replace("127.0.0.1:8044", &control);
        let mut shell = Command::new("sh");
        let folder = tool().parent().expect("a folder").to_owned();
        shell.arg("-c").arg(&here).env("PATH", with_path(&folder));
        let (_, printed) = run(shell).await;
        // Once its time is up, grpcurl may have none left to ask what the details' types are.
        let timed = command.contains("-max-time");
        let shown = |text: &str| {
            let text = if timed { text.split("Details:").next().unwrap_or_default() } else { text };
            folded(text)
        };
        if !expected.trim().is_empty() {
            assert_eq!(shown(&printed), shown(&expected), "{command}");
        }
    }
    stop(child).await;
}
