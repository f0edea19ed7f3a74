//! The settings of the `martlet` program: those of the broker, and what only a program needs.

use std::path::PathBuf;

use martlet_broker::config::{
    Config, IdentityUse, ListenerMqtt, ListenerPolicy, ListenerRates, ProtocolVersion,
};
use martlet_transport::{
    CertificateFiles, ClientAuth, IdentitySource, ListenAddress, Network, TlsOptions, TlsVersion,
};
use serde::{Deserialize, Serialize};

use super::acme::Acme;
pub use super::storage::Storage;

/// Everything that can be set. In a file the tables of [`Config`] stand at the top, beside those of [`Program`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// What only a program needs.
    pub program: Program,
    /// What any broker needs, embedded ones too.
    pub broker: Config,
}

/// What only a program needs: listeners, log, storage, pid file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Program {
    /// Where the process id is written; empty for nowhere (the default).
    pub pid_file: PathBuf,
    /// How long connections are given to take their last bytes at the end. Default 10 s.
    #[serde(with = "martlet_broker::config::units::duration")]
    pub shutdown_grace: std::time::Duration,
    /// Threads that serve connections; 0 (the default) for one per core. One alone works in order of arrival.
    pub worker_threads: usize,
    /// What is logged, and how.
    pub log: Log,
    /// Where messages and sessions are kept.
    pub storage: Storage,
    /// A certificate from an authority that speaks ACME. Default none.
    pub acme: Acme,
    /// Where clients connect. Default `tcp://127.0.0.1:1883` and `ws://127.0.0.1:8083`.
    pub listeners: Vec<Listener>,
}

impl Default for Program {
    fn default() -> Self {
        let listener = |url: &str| Listener {
            url: url.to_owned(),
            ..Listener::default()
        };
        Self {
            pid_file: PathBuf::new(),
            shutdown_grace: std::time::Duration::from_secs(10),
            worker_threads: 0,
            log: Log::default(),
            storage: Storage::default(),
            acme: Acme::default(),
            listeners: vec![
                listener("tcp://127.0.0.1:1883"),
                listener("ws://127.0.0.1:8083"),
            ],
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`; or several parts such as `info,martlet_broker=debug`. Default `info`.
    pub level: String,
    /// Lines for people, or one JSON object a line. Default `human`.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Human,
        }
    }
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// A place where clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// Its name in the log; empty (the default) makes one of scheme and port, such as `tcp-1883`.
    pub id: String,
    /// `tcp://ADDRESS:PORT`, `tls://ADDRESS:PORT`, `ws://ADDRESS:PORT[/PATH]` or `wss://ADDRESS:PORT[/PATH]`; port 0 takes a free one.
    pub url: String,
    /// Connections the kernel holds ready beyond those accepted. Default 1,024.
    pub backlog: u32,
    /// Whether small packets leave at once (`TCP_NODELAY`). Default true.
    pub nodelay: bool,
    /// Seconds of silence after which the kernel asks whether the client's machine is still there; 0 leaves it to MQTT. Default 0.
    pub tcp_keepalive_secs: u32,
    /// Seconds after which the kernel gives up a connection that acknowledges nothing; 0 leaves it to the system. Default 0.
    pub tcp_user_timeout_secs: u32,
    /// Whether several listeners, of other processes too, may share the port. Default false.
    pub reuse_port: bool,
    /// Whether `[::]` takes IPv4 connections as well. Default true.
    pub dual_stack: bool,
    /// The only network interface to take connections from; empty (the default) for all.
    pub interface: String,
    /// Networks that may connect; empty (the default) for all.
    pub allow: Vec<String>,
    /// Networks that may not.
    pub deny: Vec<String>,
    /// Whether every connection begins with a PROXY header. Default false.
    pub proxy_protocol: bool,
    /// Networks whose word about who connects is taken.
    pub trusted_proxies: Vec<String>,
    /// What tells who a client is besides user name and password. Default `none`.
    pub identity: Identity,
    /// Whether that is its user name or its client id. Default `user_name`.
    pub identity_as: IdentityUse,
    /// Protocol versions that are served; empty (the default) for all.
    pub versions: Vec<ProtocolVersion>,
    /// Whether clients without a user name may connect. Not set: as `anonymous.allow` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_anonymous: Option<bool>,
    /// The only users who may log in; empty (the default) for all.
    pub users: Vec<String>,
    /// What all topics of its clients begin with, unknown to them; empty (the default) for nothing.
    pub mount_point: String,
    /// Numbers of connections.
    pub limits: ListenerLimits,
    /// What the protocol offers here, where it differs from `[mqtt]`.
    pub mqtt: ListenerMqtt,
    /// How much may pass in a second.
    pub rates: ListenerRates,
    /// WebSocket.
    pub websocket: ListenerWebSocket,
    /// The file of a Unix socket.
    pub unix: ListenerUnix,
    /// Certificates and the like, for `tls://` and `wss://`.
    pub tls: ListenerTls,
}

/// Numbers of connections of a listener; 0 for no bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerLimits {
    /// At one time.
    pub connections_max: usize,
    /// At one time from one address.
    pub connections_per_address_max: usize,
    /// Without an accepted CONNECT.
    pub half_open_max: usize,
    /// Without an accepted CONNECT, from one address.
    pub half_open_per_address_max: usize,
    /// A second.
    pub connection_rate: u32,
    /// A second from one address.
    pub connection_rate_per_address: u32,
}

/// WebSocket of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerWebSocket {
    /// Pages whose scripts may connect; empty (the default) for all.
    pub origins: Vec<String>,
    /// Whether the subprotocol must be named. Default false.
    pub require_subprotocol: bool,
}

/// The file of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerUnix {
    /// Permissions in octal digits. Default `660`.
    pub mode: String,
    /// User who owns it; empty (the default) for the one who runs the broker.
    pub owner: String,
    /// Its group; empty (the default) for that of the broker.
    pub group: String,
}

impl Default for ListenerUnix {
    fn default() -> Self {
        Self {
            mode: "660".to_owned(),
            owner: String::new(),
            group: String::new(),
        }
    }
}

impl ListenerUnix {
    /// The permissions, if they are some.
    pub fn permissions(&self) -> Option<u32> {
        let digits = (3..=4).contains(&self.mode.len());
        let mode = u32::from_str_radix(&self.mode, 8).ok()?;
        (digits && mode <= 0o777).then_some(mode)
    }
}

/// What tells who a client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// User name and password alone.
    #[default]
    None,
    /// The common name of its certificate.
    Cn,
    /// The whole subject of its certificate.
    Dn,
    /// The first DNS name of its certificate.
    Dns,
    /// The first URI of its certificate.
    Uri,
    /// The first e-mail address of its certificate.
    Email,
    /// The user who runs it on this machine.
    UnixUser,
}

impl Identity {
    fn source(self) -> Option<IdentitySource> {
        match self {
            Self::None => None,
            Self::Cn => Some(IdentitySource::CommonName),
            Self::Dn => Some(IdentitySource::Subject),
            Self::Dns => Some(IdentitySource::DnsName),
            Self::Uri => Some(IdentitySource::Uri),
            Self::Email => Some(IdentitySource::Email),
            Self::UnixUser => Some(IdentitySource::UnixUser),
        }
    }
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerTls {
    /// PEM file: the certificate, then those that lead to an authority the clients know.
    pub cert: PathBuf,
    /// PEM file: its private key.
    pub key: PathBuf,
    /// The oldest version. Default `1.2`.
    pub min_version: MinVersion,
    /// Cipher suites by their IANA names, the preferred one first; empty (the default) for all that are safe.
    pub ciphers: Vec<String>,
    /// Whether clients resume sessions, which saves most of a handshake. Default true.
    pub session_tickets: bool,
    /// Whether clients show a certificate. Default `none`.
    pub client_cert: ClientCert,
    /// PEM file: the authorities whose client certificates are accepted; empty for none.
    pub client_ca: PathBuf,
    /// PEM file: revocation lists of these authorities; empty for none.
    pub client_crl: PathBuf,
    /// Further certificates, for clients that ask for a name in one of them.
    pub sni: Vec<CertAndKey>,
}

impl Default for ListenerTls {
    fn default() -> Self {
        Self {
            cert: PathBuf::new(),
            key: PathBuf::new(),
            min_version: MinVersion::default(),
            ciphers: Vec::new(),
            session_tickets: true,
            client_cert: ClientCert::default(),
            client_ca: PathBuf::new(),
            client_crl: PathBuf::new(),
            sni: Vec::new(),
        }
    }
}

impl ListenerTls {
    /// What the transport is told.
    pub fn options(&self) -> TlsOptions {
        let file = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
        let pair = |certificate: &PathBuf, key: &PathBuf| CertificateFiles {
            certificate: certificate.clone(),
            key: key.clone(),
        };
        let further = self.sni.iter().map(|sni| pair(&sni.cert, &sni.key));
        TlsOptions {
            certificates: std::iter::once(pair(&self.cert, &self.key))
                .chain(further)
                .collect(),
            min_version: match self.min_version {
                MinVersion::V1_2 => TlsVersion::V1_2,
                MinVersion::V1_3 => TlsVersion::V1_3,
            },
            cipher_suites: self.ciphers.clone(),
            client_auth: match self.client_cert {
                ClientCert::None => ClientAuth::None,
                ClientCert::Optional => ClientAuth::Optional,
                ClientCert::Required => ClientAuth::Required,
            },
            client_ca: file(&self.client_ca),
            client_crl: file(&self.client_crl),
            session_tickets: self.session_tickets,
        }
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CertAndKey {
    /// As [`ListenerTls::cert`].
    pub cert: PathBuf,
    /// As [`ListenerTls::key`].
    pub key: PathBuf,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MinVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCert {
    /// They are not asked.
    #[default]
    None,
    /// They may.
    Optional,
    /// They must.
    Required,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            id: String::new(),
            url: String::new(),
            backlog: 1_024,
            nodelay: true,
            tcp_keepalive_secs: 0,
            tcp_user_timeout_secs: 0,
            reuse_port: false,
            dual_stack: true,
            interface: String::new(),
            allow: Vec::new(),
            deny: Vec::new(),
            proxy_protocol: false,
            trusted_proxies: Vec::new(),
            versions: Vec::new(),
            allow_anonymous: None,
            users: Vec::new(),
            mount_point: String::new(),
            limits: ListenerLimits::default(),
            mqtt: ListenerMqtt::default(),
            rates: ListenerRates::default(),
            websocket: ListenerWebSocket::default(),
            unix: ListenerUnix::default(),
            identity: Identity::None,
            identity_as: IdentityUse::UserName,
            tls: ListenerTls::default(),
        }
    }
}

impl Listener {
    /// The id, or the one made of scheme and port.
    pub fn id_or_derived(&self) -> String {
        if !self.id.is_empty() {
            return self.id.clone();
        }
        match self.url.parse::<ListenAddress>() {
            Ok(address) => match address.host_port() {
                Some(at) => format!("{}-{}", address.scheme(), at.port),
                None => address.scheme().to_owned(),
            },
            Err(_) => String::new(),
        }
    }

    /// Whether only new connections notice the difference to `other`: nothing about the socket itself differs.
    pub fn binds_alike(&self, other: &Self) -> bool {
        let place = |listener: &Self| {
            let address: Option<ListenAddress> = listener.url.parse().ok();
            address.map(|address| match address.host_port() {
                // The path of WebSocket is no matter of the socket.
                Some(at) => (address.scheme().to_owned(), at.to_string()),
                None => (String::new(), address.to_string()),
            })
        };
        place(self) == place(other)
            && self.backlog == other.backlog
            && self.reuse_port == other.reuse_port
            && self.dual_stack == other.dual_stack
            && self.interface == other.interface
            && self.unix == other.unix
    }

    /// What the transport is told.
    pub fn options(&self) -> martlet_transport::ListenerOptions {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        let mut options = martlet_transport::ListenerOptions {
            backlog: self.backlog,
            reuse_port: self.reuse_port,
            nodelay: self.nodelay,
            keepalive_secs: (self.tcp_keepalive_secs > 0).then_some(self.tcp_keepalive_secs),
            user_timeout_secs: (self.tcp_user_timeout_secs > 0)
                .then_some(self.tcp_user_timeout_secs),
            dual_stack: self.dual_stack,
            interface: some(&self.interface),
            proxy_protocol: self.proxy_protocol,
            trusted_proxies: networks(&self.trusted_proxies),
            identity: self.identity.source(),
            tls: self.tls.options(),
            ..martlet_transport::ListenerOptions::default()
        };
        options.ws.origins.clone_from(&self.websocket.origins);
        options.ws.require_subprotocol = self.websocket.require_subprotocol;
        #[cfg(unix)]
        {
            options.unix = martlet_transport::UnixOptions {
                mode: self.unix.permissions().unwrap_or(0o660),
                owner: some(&self.unix.owner),
                group: some(&self.unix.group),
            };
        }
        options
    }

    /// What the broker is told.
    pub fn policy(&self) -> ListenerPolicy {
        let limits = &self.limits;
        ListenerPolicy {
            identity_as: self.identity_as,
            allow: networks(&self.allow),
            deny: networks(&self.deny),
            connections_max: limits.connections_max,
            connections_per_address_max: limits.connections_per_address_max,
            half_open_max: limits.half_open_max,
            half_open_per_address_max: limits.half_open_per_address_max,
            connection_rate: limits.connection_rate,
            connection_rate_per_address: limits.connection_rate_per_address,
            versions: self.versions.clone(),
            allow_anonymous: self.allow_anonymous,
            users: self.users.clone(),
            mount_point: self.mount_point.clone(),
            mqtt: self.mqtt.clone(),
            rates: self.rates.clone(),
        }
    }
}

/// What has been checked is all there.
fn networks(list: &[String]) -> Vec<Network> {
    list.iter().filter_map(|text| text.parse().ok()).collect()
}
