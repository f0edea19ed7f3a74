//! Socket activation: sockets that a service manager has bound and hands over (`LISTEN_FDS`, as systemd does).
//!
//! Which listener gets which is a matter of addresses (`martlet_transport::Inherited`). Deliberately absent: names of
//! sockets (`LISTEN_FDNAMES`).

use listenfd::ListenFd;
use martlet_transport::Inherited;

/// Takes the sockets that were handed over to this process; says what is of no use.
pub fn take() -> Inherited {
    let inherited = Inherited::default();
    let mut handed = ListenFd::from_env();
    for index in 0..handed.len() {
        if let Err(error) = take_one(&mut handed, index, &inherited) {
            tracing::warn!(
                index,
                "socket {index} of the service manager is of no use: {error}"
            );
        }
    }
    inherited
}

/// Each kind refuses what is of another.
fn take_one(handed: &mut ListenFd, index: usize, inherited: &Inherited) -> std::io::Result<()> {
    if let Ok(Some(socket)) = handed.take_tcp_listener(index) {
        return inherited.add_tcp(socket);
    }
    #[cfg(unix)]
    if let Ok(Some(socket)) = handed.take_unix_listener(index) {
        return inherited.add_unix(socket);
    }
    match handed.take_udp_socket(index)? {
        Some(socket) => inherited.add_udp(socket),
        None => Ok(()),
    }
}
