//! From flags to a connection.

use bytes::Bytes;
use martlet_client::{Client, ConnectAddress, ConnectOptions, Events, WillMessage};
use martlet_codec::{Property, Version};
use martlet_topic::{TopicFilter, TopicName};
use martlet_transport::{HostPort, TlsClientOptions};

use super::args::Common;
use super::failure::Failure;
use super::properties::Properties;
use crate::output;

/// How to connect, and what the URL said besides.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) options: ConnectOptions,
    /// The topic at the end of `-L`.
    pub(crate) topic: Option<String>,
    pub(crate) properties: Properties,
    debug: bool,
}

impl Setup {
    /// Reads the flags. `name` is that of the command, for a client id where one is needed.
    ///
    /// # Errors
    /// What makes no sense.
    pub(crate) fn new(common: &Common, name: &str) -> Result<Self, Failure> {
        let usage = |message: &str| Failure::Usage(message.to_owned());
        let version = common.protocol_version;
        let properties = Properties::parse(&common.properties, version).map_err(Failure::Usage)?;
        let target = match &common.url {
            Some(url) => Target::parse(url).map_err(Failure::Usage)?,
            None => Target {
                address: address(common)?,
                username: None,
                password: None,
                topic: None,
            },
        };
        let username = common.username.clone().or(target.username);
        let password = common.password.clone().or(target.password);
        if password.is_some() && username.is_none() && !version.is_v5() {
            return Err(usage(
                "a password needs a user name (-u) before MQTT 5 [MQTT-3.1.2-22]",
            ));
        }
        let process = std::process::id();
        let client_id = match (&common.id, &common.id_prefix) {
            (Some(id), _) => id.clone(),
            (None, Some(prefix)) => format!("{prefix}{process}"),
            (None, None) if common.keep_session => {
                return Err(usage(
                    "-c needs a client id (-i): the session is found again by it",
                ));
            }
            // MQTT 3.1 knows no empty client id.
            (None, None) if version == Version::V31 => format!("martlet-{name}-{process}"),
            (None, None) => String::new(),
        };
        if !target.address.is_tls() && asks_for_tls(common) {
            return Err(usage("the flags of TLS need mqtts:// or wss:// in -L"));
        }
        let mut options = ConnectOptions::new(target.address)
            .tls(TlsClientOptions {
                ca: common.cafile.clone(),
                certificate: common.cert.clone(),
                key: common.key.clone(),
                insecure: common.insecure,
                min_version: common.tls_version.unwrap_or_default(),
                alpn: common.tls_alpn.iter().cloned().collect(),
                cipher_suites: Vec::new(),
            })
            .version(version)
            .client_id(client_id)
            .clean_start(!common.keep_session)
            .keep_alive_secs(common.keepalive);
        options.username = username;
        options.password = password.map(Bytes::from);
        options.props = properties.connect.clone();
        options.will = will(common, &properties)?;
        match (common.session_expiry_interval, version.is_v5()) {
            (Some(_), false) => return Err(usage("-x needs MQTT 5 (-V 5)")),
            (Some(_), true)
                if properties
                    .connect
                    .as_props()
                    .session_expiry_secs()
                    .is_some() =>
            {
                return Err(usage(
                    "the session expiry is given twice, with -x and with -D",
                ));
            }
            (Some(secs), true) => {
                options.props.push(Property::SessionExpiry(secs));
            }
            // What -c asks for before MQTT 5: a session without end.
            (None, true)
                if common.keep_session
                    && properties
                        .connect
                        .as_props()
                        .session_expiry_secs()
                        .is_none() =>
            {
                options.props.push(Property::SessionExpiry(u32::MAX));
            }
            (None, _) => {}
        }
        Ok(Self {
            options,
            topic: target.topic,
            properties,
            debug: common.debug,
        })
    }

    /// Connects.
    ///
    /// # Errors
    /// Why it did not work.
    pub(crate) async fn connect(&self) -> Result<(Client, Events), martlet_client::ConnectError> {
        self.debug(|| {
            format!(
                "connecting to {}, {}",
                self.options.address,
                version_name(self.options.version)
            )
        });
        let connected = Client::connect(self.options.clone()).await;
        if let Ok((client, _)) = &connected {
            let server = client.server();
            self.debug(|| {
                let session = if server.session_present() { "kept" } else { "new" };
                let id = server.client_id();
                let keep_alive = server.keep_alive_secs();
                let properties: Vec<String> = server.props().iter().map(|property| format!("{property:?}")).collect();
                format!("connected: client id \"{id}\", {session} session, keep alive {keep_alive} s {}", properties.join(" "))
            });
        }
        connected
    }

    /// Says what happens, for `-d`.
    pub(crate) fn debug(&self, text: impl FnOnce() -> String) {
        if self.debug {
            output::stderr_line(&text());
        }
    }
}

/// Whether a flag makes sense with TLS only.
fn asks_for_tls(common: &Common) -> bool {
    common.tls
        || common.insecure
        || common.cafile.is_some()
        || common.cert.is_some()
        || common.tls_version.is_some()
        || common.tls_alpn.is_some()
}

/// What -h, -p, --unix and the flags of TLS say.
fn address(common: &Common) -> Result<ConnectAddress, Failure> {
    if let Some(path) = &common.unix {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let url = format!("unix://{}", path.display());
        let parsed = url.parse::<ConnectAddress>();
        return parsed.map_err(|error| Failure::Usage(error.to_string()));
    }
    let at = |default| HostPort {
        host: common.host.clone(),
        port: common.port.unwrap_or(default),
    };
    Ok(if asks_for_tls(common) {
        ConnectAddress::Tls(at(8883))
    } else {
        ConnectAddress::Tcp(at(1883))
    })
}

fn version_name(version: Version) -> &'static str {
    match version {
        Version::V31 => "MQTT 3.1",
        Version::V311 => "MQTT 3.1.1",
        Version::V5 => "MQTT 5",
    }
}

fn will(common: &Common, properties: &Properties) -> Result<Option<WillMessage>, Failure> {
    let Some(topic) = &common.will_topic else {
        if properties.will.as_props().is_empty() {
            return Ok(None);
        }
        return Err(Failure::Usage("-D will needs --will-topic".to_owned()));
    };
    check_name(topic)?;
    let payload = common.will_payload.clone().unwrap_or_default();
    let will = WillMessage::new(topic.clone(), payload)
        .qos(common.will_qos)
        .retain(common.will_retain)
        .props(properties.will.clone());
    Ok(Some(will))
}

/// A topic to publish to.
pub(crate) fn check_name(topic: &str) -> Result<(), Failure> {
    match TopicName::new(topic) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Usage(format!(
            "\"{topic}\" is no topic to publish to: {error}"
        ))),
    }
}

/// A filter to subscribe to, shared or not.
pub(crate) fn check_filter(filter: &str) -> Result<(), Failure> {
    match martlet_topic::Filter::parse(filter) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Usage(format!(
            "\"{filter}\" is no topic filter: {error}"
        ))),
    }
}

/// A filter to compare topics with.
pub(crate) fn check_plain_filter(filter: &str) -> Result<(), Failure> {
    match TopicFilter::new(filter) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Usage(format!(
            "\"{filter}\" is no topic filter: {error}"
        ))),
    }
}

/// What `-L` says.
#[derive(Debug, PartialEq)]
struct Target {
    address: ConnectAddress,
    username: Option<String>,
    password: Option<String>,
    topic: Option<String>,
}

impl Target {
    fn parse(url: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(format!(
                "-L {url}: write mqtt://[USER[:PASSWORD]@]HOST[:PORT][/TOPIC]"
            ));
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // Passwords may contain `@`, hosts do not.
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, authority),
        };
        let (username, password) = match login.map(|login| {
            login
                .split_once(':')
                .map_or((login, None), |(u, p)| (u, Some(p)))
        }) {
            Some((username, password)) => (Some(username.to_owned()), password.map(str::to_owned)),
            None => (None, None),
        };
        let (address, topic) = match scheme {
            "ws" | "wss" => (format!("{scheme}://{host}{path}"), None),
            _ => (
                format!("{scheme}://{host}"),
                path.strip_prefix('/').filter(|topic| !topic.is_empty()),
            ),
        };
        let address = address
            .parse::<ConnectAddress>()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            address,
            username,
            password,
            topic: topic.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let check =
            |url: &str, address: &str, login: Option<(&str, Option<&str>)>, topic: Option<&str>| {
                let target = Target::parse(url).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(target.address.to_string(), address, "{url}");
                let (username, password) = login.map_or((None, None), |(u, p)| (Some(u), p));
                assert_eq!(
                    (target.username.as_deref(), target.password.as_deref()),
                    (username, password),
                    "{url}"
                );
                assert_eq!(target.topic.as_deref(), topic, "{url}");
            };
        check("mqtt://h", "tcp://h:1883", None, None);
        check("mqtt://h:1884/a/b c", "tcp://h:1884", None, Some("a/b c"));
        check("mqtt://h//a", "tcp://h:1883", None, Some("/a"));
        check(
            "mqtt://ada:se:c@ret@h/a",
            "tcp://h:1883",
            Some(("ada", Some("se:c@ret"))),
            Some("a"),
        );
        check(
            "mqtt://ada@[::1]:1/",
            "tcp://[::1]:1",
            Some(("ada", None)),
            None,
        );
        check(
            "ws://ada:x@h:8083/mqtt",
            "ws://h:8083/mqtt",
            Some(("ada", Some("x"))),
            None,
        );
        check(
            "mqtts://ada@h/a",
            "tls://h:8883",
            Some(("ada", None)),
            Some("a"),
        );
        check("wss://h/mqtt", "wss://h:443/mqtt", None, None);
        assert!(Target::parse("h:1883").is_err());
        assert!(Target::parse("http://h").is_err());
    }
}
