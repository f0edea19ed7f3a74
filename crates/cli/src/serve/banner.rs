//! What is said at the start: what listens where, who can and who cannot connect, and how to try it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use martlet_broker::config::Config;
use martlet_transport::ListenAddress;

use crate::config::{Listener, Log, LogFormat, Settings, is_loopback};

/// A listener that accepts connections.
#[derive(Clone, Debug)]
pub struct Listening {
    /// Its name.
    pub id: String,
    /// As configured.
    pub address: ListenAddress,
    /// The address and port that were bound.
    pub bound: SocketAddr,
    /// What it says about clients without a user name.
    pub allow_anonymous: Option<bool>,
}

impl Listening {
    /// What it would be, where the address says which interface; for a configuration that is not served.
    fn planned(listener: &Listener) -> Option<Self> {
        let address: ListenAddress = listener.url.parse().ok()?;
        let at = address.host_port();
        let host: IpAddr = if is_loopback(&address) {
            Ipv4Addr::LOCALHOST.into()
        } else {
            at?.host.parse().ok()?
        };
        Some(Self {
            id: listener.id_or_derived(),
            bound: SocketAddr::new(host, at.map_or(0, |at| at.port)),
            address,
            allow_anonymous: listener.allow_anonymous,
        })
    }

    /// The URL with the port that was bound.
    pub fn url(&self) -> String {
        let path = match &self.address {
            ListenAddress::Unix(_) => return self.address.to_string(),
            ListenAddress::Ws {
                path: Some(path), ..
            }
            | ListenAddress::Wss {
                path: Some(path), ..
            } => path.as_str(),
            _ => "",
        };
        format!("{}://{}{path}", self.address.scheme(), self.bound)
    }
}

/// Prints the banner: plain lines for people; events of the log where its format is JSON, so that every line parses.
pub fn print(
    log: &Log,
    version: &str,
    file: Option<&Path>,
    config: &Config,
    listening: &[Listening],
) {
    let mut plain = String::new();
    let mut line = |text: String| {
        plain.push_str(&text);
        plain.push('\n');
    };
    if log.format == LogFormat::Json {
        tracing::info!(
            version,
            config = file.map(|file| file.display().to_string()),
            "starting"
        );
        for listener in listening {
            tracing::info!(id = listener.id, url = listener.url(), "listening");
        }
        for note in notes(config, listening) {
            tracing::info!(note, "access");
        }
        tracing::info!("ready");
        return;
    }
    line(format!("martlet {version}"));
    line(match file {
        Some(file) => format!("configuration: {}", file.display()),
        None => "configuration: defaults (no martlet.toml here, none in /etc/martlet)".to_owned(),
    });
    for listener in listening {
        line(format!(
            "listening id={} url={}",
            listener.id,
            listener.url()
        ));
    }
    for note in notes(config, listening) {
        line(format!("note: {note}"));
    }
    if let Some(try_it) = try_it(config, listening) {
        line(format!("try: {try_it}"));
    }
    line("ready".to_owned());
    write_stderr(&plain);
}

/// Writes to the standard error stream in one piece, so that no log line falls between. Where that stream is gone
/// the broker serves on.
fn write_stderr(text: &str) {
    use std::io::Write as _;
    let mut stderr = std::io::stderr().lock();
    let _ = stderr
        .write_all(text.as_bytes())
        .and_then(|()| stderr.flush());
}

/// Who could connect if these settings were served.
pub fn planned_notes(settings: &Settings) -> Vec<String> {
    let listeners = settings.program.listeners.iter();
    let listening: Vec<Listening> = listeners.filter_map(Listening::planned).collect();
    if listening.is_empty() {
        return Vec::new();
    }
    notes(&settings.broker, &listening)
}

/// Who can connect, and what to change if that is not meant.
fn notes(config: &Config, listening: &[Listening]) -> Vec<String> {
    let open: Vec<&Listening> = listening
        .iter()
        .filter(|listener| {
            listener.address.host_port().is_some() && !listener.bound.ip().is_loopback()
        })
        .collect();
    let has_users = !config.users.is_empty();
    let mut notes = Vec::new();
    let admits = |listener: &Listening| listener.allow_anonymous.or(config.anonymous.allow);
    // The configuration's warnings say so.
    if !has_users
        && listening
            .iter()
            .all(|listener| admits(listener) == Some(false))
    {
        return notes;
    }
    let Some(first_open) = open.first() else {
        let first = listening
            .iter()
            .find(|listener| listener.address.host_port().is_some());
        let scheme = first.map_or("tcp", |listener| listener.address.scheme());
        let port = first.map_or(1883, |listener| listener.bound.port());
        let mut note = format!(
            "only programs on this machine can connect; for others listen with --listen {scheme}://0.0.0.0:{port}"
        );
        if !has_users && config.anonymous.allow != Some(true) {
            note.push_str(" and add a user with `martlet passwd NAME`");
        }
        notes.push(note);
        return notes;
    };
    let place = first_open.url();
    match (admits(first_open), has_users) {
        (Some(true), _) => notes.push(format!("whoever can reach {place} can connect, without a password")),
        (None | Some(false), true) => {
            notes.push("clients need the name and password of one of the [[users]]".to_owned());
        }
        (None | Some(false), false) => notes.push(format!(
            "clients of {place} will be refused with Not authorized: there are no users. Add one with \
             `martlet passwd NAME >> martlet.toml`, or let everybody in with --set anonymous.allow=true"
        )),
    }
    notes
}

/// A line to paste.
fn try_it(config: &Config, listening: &[Listening]) -> Option<String> {
    let tcp = listening
        .iter()
        .find(|listener| matches!(listener.address, ListenAddress::Tcp(_)))?;
    let host =
        if tcp.bound.ip().is_unspecified() || is_loopback(&tcp.address) && tcp.bound.is_ipv4() {
            "127.0.0.1".to_owned()
        } else {
            tcp.bound.ip().to_string()
        };
    let port = tcp.bound.port();
    let mut login = String::new();
    let anonymous_refused = match tcp.allow_anonymous.or(config.anonymous.allow) {
        Some(allow) => !allow,
        None => !config.users.is_empty() || !tcp.bound.ip().is_loopback(),
    };
    if anonymous_refused {
        let user = config.users.first()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let name = if user.name.chars().all(plain) {
            user.name.as_str()
        } else {
            "NAME"
        };
        login = format!(" -u {name} -P PASSWORD");
    }
    let place = format!("-h {host} -p {port}{login}");
    Some(format!(
        "mosquitto_sub {place} -v -t 'a/#' & mosquitto_pub {place} -t a/b -m hi"
    ))
}

#[cfg(test)]
mod tests {
    use martlet_broker::config::User;

    use super::*;

    fn listening(url: &str, bound: &str) -> Listening {
        Listening {
            id: "x".to_owned(),
            address: url.parse().expect("an address"),
            bound: bound.parse().expect("a socket address"),
            allow_anonymous: None,
        }
    }

    fn check(allow: Option<bool>, users: &[&str], bound: &str, part: &str, try_part: Option<&str>) {
        let mut config = Config::default();
        config.anonymous.allow = allow;
        config.users = users
            .iter()
            .map(|name| User {
                name: (*name).to_owned(),
                ..User::default()
            })
            .collect();
        let listening = [listening(&format!("tcp://{bound}"), bound)];
        let notes = notes(&config, &listening).join("\n");
        assert!(notes.contains(part), "{part} is not in: {notes}");
        let try_it = try_it(&config, &listening);
        match (&try_it, try_part) {
            (Some(line), Some(part)) => assert!(line.contains(part), "{part} is not in: {line}"),
            (None, None) => {}
            _ => panic!("{try_it:?}"),
        }
    }

    #[test]
    fn it_says_who_is_refused_and_why() {
        check(
            None,
            &[],
            "127.0.0.1:1883",
            "--listen tcp://0.0.0.0:1883 and add a user",
            Some("-h 127.0.0.1 -p 1883 -v"),
        );
        check(
            Some(true),
            &[],
            "127.0.0.1:1883",
            "only programs on this machine",
            Some("-h 127.0.0.1 -p 1883 -v"),
        );
        check(
            None,
            &[],
            "0.0.0.0:1883",
            "refused with Not authorized",
            None,
        );
        check(Some(false), &[], "0.0.0.0:1883", "", None);
        check(Some(false), &[], "127.0.0.1:1883", "", None);
        check(
            Some(true),
            &[],
            "0.0.0.0:1884",
            "without a password",
            Some("-h 127.0.0.1 -p 1884 -v"),
        );
        check(
            None,
            &["ada"],
            "192.0.2.1:1883",
            "one of the [[users]]",
            Some("-h 192.0.2.1 -p 1883 -u ada -P PASSWORD"),
        );
        check(
            None,
            &["a b; rm"],
            "[::]:1883",
            "one of the [[users]]",
            Some("-u NAME -P PASSWORD"),
        );
    }

    #[test]
    fn urls_name_the_port_that_was_bound() {
        assert_eq!(
            listening("ws://127.0.0.1:0/mqtt", "127.0.0.1:4711").url(),
            "ws://127.0.0.1:4711/mqtt"
        );
        assert_eq!(
            listening("tcp://[::1]:0", "[::1]:4711").url(),
            "tcp://[::1]:4711"
        );
    }
}
