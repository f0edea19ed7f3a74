//! Tells the service manager that started us how we are (`sd_notify`), where there is one.

/// Sends `state`, such as `READY=1`, to the socket that `NOTIFY_SOCKET` names.
#[cfg(target_os = "linux")]
pub fn notify(state: &str) {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    };
    let sent = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address))
        .map(|_| ());
    if let Err(error) = sent {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

/// There is no service manager to tell.
#[cfg(not(target_os = "linux"))]
pub fn notify(_: &str) {}
