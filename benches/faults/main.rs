//! What callers lose while something fails, each as a table with the goal beside the figure.
//!
//! `cargo bench --bench faults` takes about twenty minutes; `cargo bench --bench faults -- drain soak` only what is
//! named. `SOAK_SECONDS=60` makes the soak shorter.

#![allow(clippy::print_stdout, reason = "the tables are what a benchmark is for")]
#![allow(clippy::cast_precision_loss, reason = "counts of calls are small")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are small")]

mod cancels;
mod connection_age;
mod deadlines;
mod drain;
mod neighbours;
mod outage;
mod overload;
#[path = "../process/mod.rs"]
mod process;
mod repeats;
mod site;
mod soak;

use std::env;

use self::site::Failure;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let named: Vec<_> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_asked = |name: &str| named.is_empty() || named.iter().any(|word| word == name);
    macro_rules! run {
        ($($section:ident),*) => {$(
            if is_asked(stringify!($section)) {
                println!("\n== {} ==", stringify!($section));
                Box::pin($section::run()).await?;
            }
        )*};
    }
    run!(outage, overload, cancels, drain, connection_age, deadlines, repeats, neighbours, soak);
    Ok(())
}
