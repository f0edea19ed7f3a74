//! Addresses as URLs: where to listen, where to connect.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// The TCP port that is meant where a `tcp://` or `mqtt://` address names none.
const MQTT_PORT: u16 = 1883;
/// The same for `tls://`, `mqtts://` and `ssl://`.
const MQTTS_PORT: u16 = 8883;
/// The UDP port of `quic://`, as other brokers have it.
#[cfg(feature = "quic")]
const QUIC_PORT: u16 = 14567;
/// The TCP port that is meant where a `ws://` address to connect to names none.
const HTTP_PORT: u16 = 80;
/// The same for `wss://`.
const HTTPS_PORT: u16 = 443;

/// A host (name or IP address, IPv6 without brackets) and a TCP port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A DNS name or an IP address; an IPv6 address stands here without brackets.
    pub host: String,
    /// The port. 0 in a listening address lets the operating system choose.
    pub port: u16,
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Where to listen, as `tcp://127.0.0.1:1883`, `tls://0.0.0.0:8883`, `ws://[::1]:8083/mqtt`,
/// `wss://0.0.0.0:8084`, `quic://0.0.0.0:14567` or `unix:///run/martlet.sock`.
///
/// A name is resolved when the listener binds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListenAddress {
    /// Plain TCP; port 1883 when the URL names none.
    Tcp(HostPort),
    /// WebSocket over TCP; the port must be named.
    Ws {
        /// Host and port.
        at: HostPort,
        /// The only request path to serve, starting with `/`. `None` (a URL without any path)
        /// leaves it to [`WsOptions::path`](crate::WsOptions::path).
        path: Option<String>,
    },
    /// TLS over TCP; port 8883 when the URL names none.
    Tls(HostPort),
    /// WebSocket over TLS; the port must be named.
    Wss {
        /// Host and port.
        at: HostPort,
        /// As in [`Self::Ws`].
        path: Option<String>,
    },
    /// A Unix socket in the file system; an absolute path.
    Unix(PathBuf),
    /// QUIC over UDP; port 14567 when the URL names none.
    #[cfg(feature = "quic")]
    Quic(HostPort),
}

impl ListenAddress {
    /// Host and port to bind; a Unix socket has none.
    pub fn host_port(&self) -> Option<&HostPort> {
        match self {
            Self::Tcp(at) | Self::Ws { at, .. } | Self::Tls(at) | Self::Wss { at, .. } => Some(at),
            Self::Unix(_) => None,
            #[cfg(feature = "quic")]
            Self::Quic(at) => Some(at),
        }
    }

    /// The scheme of its URL: `tcp`, `ws`, `tls`, `wss` or `unix`.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::Ws { .. } => "ws",
            Self::Tls(_) => "tls",
            Self::Wss { .. } => "wss",
            Self::Unix(_) => "unix",
            #[cfg(feature = "quic")]
            Self::Quic(_) => "quic",
        }
    }

    /// Whether its connections are encrypted, so that it needs a certificate.
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Tls(_) | Self::Wss { .. } => true,
            #[cfg(feature = "quic")]
            Self::Quic(_) => true,
            _ => false,
        }
    }

    /// Whether it speaks WebSocket.
    pub fn is_web_socket(&self) -> bool {
        matches!(self, Self::Ws { .. } | Self::Wss { .. })
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address.into())
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(at) | Self::Tls(at) => write!(f, "{}://{at}", self.scheme()),
            Self::Ws { at, path } | Self::Wss { at, path } => {
                let path = path.as_deref().unwrap_or("");
                write!(f, "{}://{at}{path}", self.scheme())
            }
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            #[cfg(feature = "quic")]
            Self::Quic(at) => write!(f, "quic://{at}"),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = unix_path(text)? {
            return Ok(Self::Unix(path));
        }
        let url = Url::parse(text)?;
        let fail = |reason| Err(AddressError::new(text, reason));
        if url.host.is_empty() {
            let port = url.port.unwrap_or(url.default_port());
            return fail(format!(
                "the host is missing: write {scheme}://127.0.0.1:{port} for this machine only, \
                 {scheme}://0.0.0.0:{port} for every IPv4 interface or {scheme}://[::]:{port} for all",
                scheme = url.scheme
            ));
        }
        match url.scheme {
            "tcp" | "mqtt" => Ok(Self::Tcp(url.pathless(text)?)),
            "tls" | "mqtts" | "ssl" => Ok(Self::Tls(url.pathless(text)?)),
            #[cfg(feature = "quic")]
            "quic" => Ok(Self::Quic(url.pathless(text)?)),
            "ws" | "wss" if url.port.is_none() => fail(format!(
                "a WebSocket listener needs a port, as in {}://127.0.0.1:8083",
                url.scheme
            )),
            "ws" => Ok(Self::Ws {
                path: url.path.map(str::to_owned),
                at: url.host_port(),
            }),
            "wss" => Ok(Self::Wss {
                path: url.path.map(str::to_owned),
                at: url.host_port(),
            }),
            _ => fail(url.unknown_scheme()),
        }
    }
}

/// Where to connect to, as `mqtt://broker.example:1883`, `tcp://[::1]`, `mqtts://broker.example`,
/// `ws://host:8083/mqtt`, `wss://host/mqtt` or `unix:///run/martlet.sock`.
///
/// Without a scheme, `host` and `host:port` mean TCP.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectAddress {
    /// Plain TCP; port 1883 when none is named.
    Tcp(HostPort),
    /// WebSocket over TCP; port 80 when none is named.
    Ws {
        /// Host and port.
        at: HostPort,
        /// The request path, starting with `/`.
        path: String,
    },
    /// TLS over TCP; port 8883 when none is named.
    Tls(HostPort),
    /// WebSocket over TLS; port 443 when none is named.
    Wss {
        /// Host and port.
        at: HostPort,
        /// The request path, starting with `/`.
        path: String,
    },
    /// A Unix socket in the file system; an absolute path.
    Unix(PathBuf),
    /// QUIC over UDP; port 14567 when the URL names none.
    #[cfg(feature = "quic")]
    Quic(HostPort),
}

impl ConnectAddress {
    /// Host and port to connect to; a Unix socket has none.
    pub fn host_port(&self) -> Option<&HostPort> {
        match self {
            Self::Tcp(at) | Self::Ws { at, .. } | Self::Tls(at) | Self::Wss { at, .. } => Some(at),
            Self::Unix(_) => None,
            #[cfg(feature = "quic")]
            Self::Quic(at) => Some(at),
        }
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Tls(_) | Self::Wss { .. } => true,
            #[cfg(feature = "quic")]
            Self::Quic(_) => true,
            _ => false,
        }
    }
}

impl Default for ConnectAddress {
    /// `tcp://127.0.0.1:1883`.
    fn default() -> Self {
        Self::Tcp(HostPort {
            host: "127.0.0.1".into(),
            port: MQTT_PORT,
        })
    }
}

impl From<SocketAddr> for ConnectAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address.into())
    }
}

impl fmt::Display for ConnectAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(at) => write!(f, "tcp://{at}"),
            Self::Tls(at) => write!(f, "tls://{at}"),
            Self::Ws { at, path } => write!(f, "ws://{at}{path}"),
            Self::Wss { at, path } => write!(f, "wss://{at}{path}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            #[cfg(feature = "quic")]
            Self::Quic(at) => write!(f, "quic://{at}"),
        }
    }
}

impl FromStr for ConnectAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = unix_path(text)? {
            return Ok(Self::Unix(path));
        }
        let with_scheme;
        let url = if text.contains("://") {
            Url::parse(text)?
        } else {
            with_scheme = format!("tcp://{text}");
            Url::parse(&with_scheme).map_err(|error| AddressError::new(text, error.reason))?
        };
        let fail = |reason| Err(AddressError::new(text, reason));
        if url.host.is_empty() {
            return fail("the host is missing, as in tcp://127.0.0.1:1883".into());
        }
        if url.port == Some(0) {
            return fail("port 0 can be listened on but not connected to".into());
        }
        match url.scheme {
            "tcp" | "mqtt" => Ok(Self::Tcp(url.pathless(text)?)),
            "tls" | "mqtts" | "ssl" => Ok(Self::Tls(url.pathless(text)?)),
            #[cfg(feature = "quic")]
            "quic" => Ok(Self::Quic(url.pathless(text)?)),
            "ws" => Ok(Self::Ws {
                path: url.path.unwrap_or("/").to_owned(),
                at: url.host_port(),
            }),
            "wss" => Ok(Self::Wss {
                path: url.path.unwrap_or("/").to_owned(),
                at: url.host_port(),
            }),
            _ => fail(url.unknown_scheme()),
        }
    }
}

/// An address that cannot be understood, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an address: {reason}")]
pub struct AddressError {
    text: String,
    reason: String,
}

impl AddressError {
    fn new(text: &str, reason: impl Into<String>) -> Self {
        Self {
            text: text.to_owned(),
            reason: reason.into(),
        }
    }
}

/// `scheme://host[:port][/path]`, the part of URLs that addresses use.
struct Url<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
    path: Option<&'a str>,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Result<Self, AddressError> {
        let fail = |reason: String| AddressError::new(text, reason);
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(fail(format!(
                "the scheme is missing: write tcp://{text} or ws://{text}"
            )));
        };
        if let Some(bad) = rest.chars().find(|c| c.is_whitespace() || c.is_control()) {
            return Err(fail(format!("{bad:?} has no place in an address")));
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], Some(&rest[at..])),
            None => (rest, None),
        };
        if rest.contains(['?', '#']) {
            return Err(fail("`?` and `#` have no meaning here".into()));
        }
        if authority.contains('@') {
            return Err(fail(
                "user name and password do not belong into the address".into(),
            ));
        }
        let (host, port) = if let Some(v6) = authority.strip_prefix('[') {
            let Some((host, rest)) = v6.split_once(']') else {
                return Err(fail("`[` without `]`".into()));
            };
            // A zone (`%eth0`) is for the resolver to judge.
            let address = host.split('%').next().unwrap_or(host);
            if address.parse::<Ipv6Addr>().is_err() {
                return Err(fail(format!("`{host}` is not an IPv6 address")));
            }
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(fail(format!("`{rest}` after the IPv6 address"))),
            }
        } else {
            match authority.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => {
                    return Err(fail(
                        "an IPv6 address stands in brackets, as in tcp://[::1]:1883".into(),
                    ));
                }
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            }
        };
        if looks_like_ipv4(host) && host.parse::<IpAddr>().is_err() {
            return Err(fail(format!("`{host}` is not an IPv4 address")));
        }
        let port = match port {
            None => None,
            Some(digits) => match digits.parse::<u16>() {
                Ok(port) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(port),
                _ => {
                    return Err(fail(format!("`{digits}` is not a port (0 to 65535)")));
                }
            },
        };
        Ok(Self {
            scheme,
            host,
            port,
            path,
        })
    }

    /// The port of the scheme.
    fn default_port(&self) -> u16 {
        match self.scheme {
            "tls" | "mqtts" | "ssl" => MQTTS_PORT,
            "ws" => HTTP_PORT,
            "wss" => HTTPS_PORT,
            #[cfg(feature = "quic")]
            "quic" => QUIC_PORT,
            _ => MQTT_PORT,
        }
    }

    fn host_port(&self) -> HostPort {
        HostPort {
            host: self.host.to_owned(),
            port: self.port.unwrap_or(self.default_port()),
        }
    }

    fn pathless(&self, text: &str) -> Result<HostPort, AddressError> {
        match self.path {
            None | Some("/") => Ok(self.host_port()),
            Some(path) => Err(AddressError::new(
                text,
                format!("a {} address has no path (`{path}`)", self.scheme),
            )),
        }
    }

    fn unknown_scheme(&self) -> String {
        match self.scheme {
            "quic" => "this build has no QUIC".into(),
            "http" => "for WebSocket write ws instead of http".into(),
            "https" => "for WebSocket over TLS write wss instead of https".into(),
            other => format!("unknown scheme `{other}`: use tcp, tls, ws, wss, quic or unix"),
        }
    }
}

/// The longest path of a Unix socket: what fits into the address with its final zero on every system.
const UNIX_PATH_BYTES_MAX: usize = 103;

/// The path of a `unix://` address.
fn unix_path(text: &str) -> Result<Option<PathBuf>, AddressError> {
    let Some(path) = text.strip_prefix("unix://") else {
        return Ok(None);
    };
    let fail = |reason: String| Err(AddressError::new(text, reason));
    if cfg!(not(unix)) {
        return fail("this system has no Unix sockets".into());
    }
    if !path.starts_with('/') || path.ends_with('/') {
        return fail("write an absolute path, as in unix:///run/martlet.sock".into());
    }
    if path.len() > UNIX_PATH_BYTES_MAX {
        return fail(format!(
            "the path of a Unix socket has at most {UNIX_PATH_BYTES_MAX} bytes, this one has {}",
            path.len()
        ));
    }
    if let Some(bad) = path.chars().find(|c| c.is_control()) {
        return fail(format!("{bad:?} has no place in an address"));
    }
    Ok(Some(PathBuf::from(path)))
}

/// Only digits and dots: certainly meant to be an IPv4 address, not a name to look up.
fn looks_like_ipv4(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_that_are_fine() {
        // input | displayed
        for (text, shown) in [
            ("tcp://127.0.0.1:1883", "tcp://127.0.0.1:1883"),
            ("tcp://127.0.0.1", "tcp://127.0.0.1:1883"),
            ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"),
            ("mqtt://localhost:1884/", "tcp://localhost:1884"),
            ("tcp://[::]:1883", "tcp://[::]:1883"),
            ("tcp://[fe80::1%eth0]", "tcp://[fe80::1%eth0]:1883"),
            ("ws://[::1]:8083/mqtt", "ws://[::1]:8083/mqtt"),
            ("ws://0.0.0.0:8083", "ws://0.0.0.0:8083"),
            ("ws://host:8083/", "ws://host:8083/"),
            ("mqtts://host", "tls://host:8883"),
            ("tls://[::]:1", "tls://[::]:1"),
            ("wss://host:8084/mqtt", "wss://host:8084/mqtt"),
            ("unix:///run/martlet.sock", "unix:///run/martlet.sock"),
            #[cfg(feature = "quic")]
            ("quic://host", "quic://host:14567"),
            ("unix:///tmp/a b:c", "unix:///tmp/a b:c"),
        ] {
            let address: ListenAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), shown, "{text}");
            assert_eq!(shown.parse(), Ok(address), "{text} read back");
        }
    }

    #[test]
    fn listen_addresses_that_are_wrong_say_why() {
        for (text, hint) in [
            ("1883", "write tcp://1883"),
            ("", "scheme is missing"),
            ("tcp://", "host is missing"),
            ("tcp://:1883", "0.0.0.0:1883"),
            ("tcp://::1:1883", "in brackets"),
            ("tcp://[::1", "without"),
            ("tcp://[nonsense]:1", "not an IPv6 address"),
            ("tcp://[::1]1883", "after the IPv6 address"),
            ("tcp://1.2.3.4.5:1", "not an IPv4 address"),
            ("tcp://256.0.0.1:1", "not an IPv4 address"),
            ("tcp://h:65536", "not a port"),
            ("tcp://h:+1", "not a port"),
            ("tcp://h:", "not a port"),
            ("tcp://h:1/path", "no path"),
            ("tcp://h:1?x", "no meaning"),
            ("tcp://me:secret@h:1", "password"),
            ("tcp://h :1", "no place"),
            ("ws://127.0.0.1", "needs a port"),
            ("wss://127.0.0.1", "needs a port"),
            ("tls://h/x", "a tls address has no path"),
            ("tls://", "0.0.0.0:8883"),
            ("unix://run/a", "absolute path"),
            ("unix:///", "absolute path"),
            ("unix:///a\nb", "no place"),
            ("https://127.0.0.1:1", "write wss"),
            ("http://127.0.0.1:1", "write ws"),
            ("udp://127.0.0.1:1", "unknown scheme `udp`"),
        ] {
            let error = text.parse::<ListenAddress>().expect_err(text).to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn connect_addresses() {
        for (text, shown) in [
            ("localhost", "tcp://localhost:1883"),
            ("127.0.0.1:1884", "tcp://127.0.0.1:1884"),
            ("[::1]", "tcp://[::1]:1883"),
            ("mqtt://h", "tcp://h:1883"),
            ("ws://h", "ws://h:80/"),
            ("ws://h:8083/mqtt", "ws://h:8083/mqtt"),
        ] {
            let address: ConnectAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), shown, "{text}");
        }
        for (text, hint) in [
            ("", "host is missing"),
            ("h:0", "port 0"),
            ("a b", "`a b`"),
            ("unix://h", "absolute path"),
        ] {
            let error = text.parse::<ConnectAddress>().expect_err(text).to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
