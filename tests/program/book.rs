//! The README and the pages of the book, word for word: what they show is what a reader sees.
//!
//! Every fenced block is run, checked, or says by a mark why it is not; `kinds` has the rules.
//! `cargo test --test program book -- --nocapture` prints the commands that were run.

mod blocks;
mod console;
mod documents;
mod files;
mod kinds;
mod links;
mod page;
mod ports;
mod shell;
mod slugs;
mod stand;
mod toml;

use std::{path::PathBuf, sync::Arc};

use tokio::{sync::Semaphore, task::JoinSet};

use self::{documents::pages, page::Report};

/// How many pages are gone through at once, each with a demo of its own.
const AT_ONCE: usize = 3;

#[tokio::test]
async fn every_block_does_what_the_page_says() {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut going = JoinSet::new();
    for page in pages() {
        let places = places.clone();
        going.spawn(async move {
            let _place = places.acquire_owned().await.expect("never closed");
            (page.clone(), page::go_through(&page).await)
        });
    }
    let mut reports: Vec<(PathBuf, Report)> = going.join_all().await;
    reports.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (page, report) in &reports {
        for line in &report.done {
            println!("{}:{line}", page.display());
        }
    }
    let mistakes: Vec<_> = reports.iter().flat_map(|(_, report)| &report.mistakes).collect();
    assert!(mistakes.is_empty(), "{}", listed(&mistakes));
    let ran = reports.iter().map(|(_, report)| report.ran).sum::<usize>();
    assert!(ran > 8, "only {ran} commands were found");
}

/// All mistakes at once, each on lines of its own.
fn listed(mistakes: &[impl std::fmt::Display]) -> String {
    let lines = mistakes.iter().map(|mistake| format!("\n{mistake}"));
    format!("{} mistakes:{}", mistakes.len(), lines.collect::<String>())
}
