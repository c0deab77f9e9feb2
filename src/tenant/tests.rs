//! What a tenant's calls and keepers do, with a simulated gateway behind them.

mod calling;
mod changing;
mod confirming;
mod keeping;
mod locking;
mod losing;
mod others;
mod polling_for_all;
mod reading_back;
mod registering;
mod repeating;
mod safekeeping;
mod settling;
mod sharing;
mod signing_in;
mod storing;
mod telling;
mod world;
