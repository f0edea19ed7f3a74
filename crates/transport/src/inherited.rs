//! Sockets that were bound before the process began, by a service manager for one. A listener with the address of one of
//! them takes it instead of binding its own.
//!
//! Deliberately absent: how they come into the process; that is a matter of file descriptors and of the program.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
#[cfg(unix)]
use std::os::unix::net::UnixListener;
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sockets that wait for their listeners; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Inherited(Arc<Mutex<Vec<Socket>>>);

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener, SocketAddr),
    Udp(UdpSocket, SocketAddr),
    #[cfg(unix)]
    Unix(UnixListener, PathBuf),
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(_, at) => write!(f, "tcp://{at}"),
            Self::Udp(_, at) => write!(f, "udp://{at}"),
            #[cfg(unix)]
            Self::Unix(_, path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl Inherited {
    fn sockets(&self) -> MutexGuard<'_, Vec<Socket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a listening socket of TCP.
    ///
    /// # Errors
    /// Its address cannot be found out.
    pub fn add_tcp(&self, socket: TcpListener) -> io::Result<()> {
        let at = socket.local_addr()?;
        self.sockets().push(Socket::Tcp(socket, at));
        Ok(())
    }

    /// Adds a bound socket of UDP.
    ///
    /// # Errors
    /// Its address cannot be found out.
    pub fn add_udp(&self, socket: UdpSocket) -> io::Result<()> {
        let at = socket.local_addr()?;
        self.sockets().push(Socket::Udp(socket, at));
        Ok(())
    }

    /// Adds a listening Unix socket. Its file stays when the listener closes.
    ///
    /// # Errors
    /// It has no path.
    #[cfg(unix)]
    pub fn add_unix(&self, socket: UnixListener) -> io::Result<()> {
        let address = socket.local_addr()?;
        let path = address
            .as_pathname()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the socket has no path"))?
            .to_owned();
        self.sockets().push(Socket::Unix(socket, path));
        Ok(())
    }

    /// The addresses of those that no listener has taken.
    pub fn left(&self) -> Vec<String> {
        self.sockets().iter().map(ToString::to_string).collect()
    }

    fn take<T>(
        &self,
        is_it: impl Fn(&Socket) -> bool,
        into: impl FnOnce(Socket) -> Option<T>,
    ) -> Option<T> {
        let mut sockets = self.sockets();
        let at = sockets.iter().position(is_it)?;
        into(sockets.swap_remove(at))
    }

    pub(crate) fn take_tcp(&self, address: SocketAddr) -> Option<TcpListener> {
        self.take(
            |socket| matches!(socket, Socket::Tcp(_, at) if *at == address),
            |socket| match socket {
                Socket::Tcp(socket, _) => Some(socket),
                _ => None,
            },
        )
    }

    #[cfg(feature = "quic")]
    pub(crate) fn take_udp(&self, address: SocketAddr) -> Option<UdpSocket> {
        self.take(
            |socket| matches!(socket, Socket::Udp(_, at) if *at == address),
            |socket| match socket {
                Socket::Udp(socket, _) => Some(socket),
                _ => None,
            },
        )
    }

    #[cfg(unix)]
    pub(crate) fn take_unix(&self, path: &Path) -> Option<UnixListener> {
        self.take(
            |socket| matches!(socket, Socket::Unix(_, at) if at == path),
            |socket| match socket {
                Socket::Unix(socket, _) => Some(socket),
                _ => None,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_taken_once_by_its_own_address() {
        let inherited = Inherited::default();
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = tcp.local_addr().expect("bound");
        inherited.add_tcp(tcp).expect("bound");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let udp_at = udp.local_addr().expect("bound");
        inherited.add_udp(udp).expect("bound");
        let other = SocketAddr::new(at.ip(), at.port().wrapping_add(1));
        assert!(inherited.take_tcp(other).is_none());
        assert!(inherited.take_tcp(at).is_some());
        assert!(inherited.take_tcp(at).is_none());
        assert_eq!(inherited.left(), [format!("udp://{udp_at}")]);
    }
}
