//! Core dumps. They are copies of the process's memory, with all its passwords, Guids and keys.

use std::io;

/// Forbids them, and keeps all other processes of the same user from the memory. A limit of their size would
/// not do: the kernel ignores it where a program takes core dumps.
#[cfg(target_os = "linux")]
pub(super) fn forbid() -> io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn forbid() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
