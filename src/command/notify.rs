//! Tells systemd how the bridge is doing, where that has asked for it by `Type=notify`: sd_notify(3).

use std::{
    env,
    ffi::OsStr,
    io,
    os::unix::net::{SocketAddr, UnixDatagram},
};

use tracing::warn;

/// Names the socket on which systemd listens.
const SOCKET: &str = "NOTIFY_SOCKET";

/// The bridge serves callers.
pub(super) fn ready() {
    tell("READY=1");
}

/// The bridge has begun to stop.
pub(super) fn stopping() {
    tell("STOPPING=1");
}

fn tell(state: &'static str) {
    let Some(socket) = env::var_os(SOCKET) else { return };
    if let Err(error) = send(&socket, state) {
        warn!(%error, "systemd could not be told that the bridge serves, or that it stops");
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    // Nobody has to read it.
    sender.set_nonblocking(true)?;
    sender.send_to_addr(state.as_bytes(), &address(socket)?).map(drop)
}

/// A path, or the name of an abstract socket behind an `@`.
#[cfg(target_os = "linux")]
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    use std::os::{linux::net::SocketAddrExt as _, unix::ffi::OsStrExt as _};
    match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        path => SocketAddr::from_pathname(OsStr::from_bytes(path)),
    }
}

#[cfg(not(target_os = "linux"))]
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    SocketAddr::from_pathname(socket)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;

    use super::*;

    fn received(by: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = by.recv(&mut buffer).expect("sent");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    }

    #[test]
    fn systemd_hears_at_a_path_and_by_an_abstract_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let listens = UnixDatagram::bind(&path).expect("bound");
        send(path.as_os_str(), "READY=1").expect("sent");
        assert_eq!(received(&listens), "READY=1");

        // The folder's name is nobody else's.
        let name = folder.path().display().to_string();
        let address = SocketAddr::from_abstract_name(&name).expect("short");
        let listens = UnixDatagram::bind_addr(&address).expect("bound");
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").expect("sent");
        assert_eq!(received(&listens), "STOPPING=1");

        send(OsStr::new("/nowhere/at/all"), "READY=1").expect_err("nobody listens");
    }
}
