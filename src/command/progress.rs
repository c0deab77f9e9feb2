//! Says what a command waits for, to whoever watches it at a terminal.

use std::{
    io::{self, IsTerminal as _, Write},
    pin::pin,
    time::Duration,
};

use tokio::time::{Instant, interval_at};

/// What takes less needs no explanation.
const SAID_AFTER: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_secs(1);
/// As much of the text as leaves the line shorter than a terminal's, so that it can be taken back.
const LENGTH_MAX: usize = 65;

/// Waits for `work`. Where that takes longer than two seconds, and stderr is a terminal, a line there says what is
/// waited for and for how long, until it is over.
pub(super) async fn waiting<F: Future>(what: &str, work: F) -> F::Output {
    let mut stderr = io::stderr();
    if stderr.is_terminal() { waiting_at(&mut stderr, what, work).await } else { work.await }
}

async fn waiting_at<F: Future>(terminal: &mut impl Write, what: &str, work: F) -> F::Output {
    let what: String = what.chars().filter(|c| !c.is_control()).take(LENGTH_MAX).collect();
    let mut work = pin!(work);
    let begun = Instant::now();
    let mut ticks = interval_at(begun + SAID_AFTER, INTERVAL);
    let mut said = 0;
    loop {
        tokio::select! {
            biased;
            done = &mut work => {
                if said > 0 {
                    write(terminal, &format!("\r{}\r", " ".repeat(said)));
                }
                return done;
            }
            _ = ticks.tick() => {
                let line = format!("{what}: {} s", begun.elapsed().as_secs());
                write(terminal, &format!("\r{line}"));
                said = line.chars().count();
            }
        }
    }
}

/// The result does not depend on whether this can be read.
fn write(terminal: &mut impl Write, text: &str) {
    let _unread = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_takes_longer_than_two_seconds_is_said_until_it_is_over() {
        let mut terminal = Vec::new();
        waiting_at(&mut terminal, "asking", sleep(Duration::from_millis(1900))).await;
        assert_eq!(terminal, b"");
        waiting_at(&mut terminal, "asking", sleep(Duration::from_millis(3500))).await;
        let said = String::from_utf8(terminal).expect("text");
        assert_eq!(said, format!("\rasking: 2 s\rasking: 3 s\r{}\r", " ".repeat(11)));
    }
}
