//! Rules between and about the settings of listeners. Files are looked at by whoever uses them, not here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use martlet_broker::config::User;
use martlet_transport::{ListenAddress, Network};

use super::checks::{Checker, PACKET_BYTES_MAX};
use super::settings::{
    ClientCert, Identity, Listener, ListenerTls, ListenerUnix, ListenerWebSocket, Settings,
};

pub(super) fn listeners(settings: &Settings, checker: &mut Checker<'_>) {
    const LISTENERS_MAX: usize = 256;
    let listeners = &settings.program.listeners;
    if listeners.is_empty() {
        checker
            .add("listeners", "is empty: nobody could connect")
            .help = Some("add [[listeners]] with url = \"tcp://127.0.0.1:1883\"".to_owned());
    }
    if listeners.len() > LISTENERS_MAX {
        checker.add(
            "listeners",
            format!("has more than {LISTENERS_MAX} elements"),
        );
        return;
    }
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (index, listener) in listeners.iter().enumerate() {
        let key = |name: &str| format!("listeners[{index}].{name}");
        if listener.url.is_empty() {
            checker
                .add(&format!("listeners[{index}]"), "has no url")
                .help = Some("add url = \"tcp://127.0.0.1:1883\"".to_owned());
            continue;
        }
        let address = match listener.url.parse::<ListenAddress>() {
            Ok(address) => address,
            Err(error) => {
                checker.add(&key("url"), format!("is wrong: {error}"));
                continue;
            }
        };
        let place = match (&address, address.host_port()) {
            (_, Some(at)) if at.port == 0 => None,
            // Its ports are those of UDP.
            (address, Some(at)) if address.scheme() == "quic" => Some(format!("UDP {at}")),
            (_, Some(at)) => Some(at.to_string()),
            (address, None) => Some(address.to_string()),
        };
        if let Some(place) = place
            && let Some(first) = places.insert(place.clone(), index)
        {
            checker.add(
                &key("url"),
                format!("listens on {place}, as listeners[{first}] does"),
            );
        }
        tls(index, listener, &address, checker);
        access(index, listener, &address, checker);
        special(index, listener, &address, checker);
        clients(index, listener, settings, checker);
        let id = listener.id_or_derived();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if id.len() > 64 || !id.chars().all(plain) {
            checker.add(
                &key("id"),
                "must be at most 64 letters, digits, `-`, `_` and `.`",
            );
        }
        // Listeners on port 0 without an id would all be called alike; they are numbered when they start.
        let derived = listener.id.is_empty();
        if let Some(first) = ids.insert(id.clone(), index)
            && !derived
        {
            checker.add(
                &key("id"),
                format!("is \"{id}\", which is the id of listeners[{first}]"),
            );
        }
        checker.range(&key("backlog"), &listener.backlog, &1, &65_535);
        // Linux's own bound.
        checker.range(
            &key("tcp_keepalive_secs"),
            &listener.tcp_keepalive_secs,
            &0,
            &32_767,
        );
    }
}

/// What `tls` and `identity` need of each other and of the URL.
fn tls(index: usize, listener: &Listener, address: &ListenAddress, checker: &mut Checker<'_>) {
    let key = |name: &str| format!("listeners[{index}].{name}");
    let tls = &listener.tls;
    let empty = |path: &std::path::PathBuf| path.as_os_str().is_empty();
    if !address.is_tls() {
        if *tls != ListenerTls::default() {
            let (scheme, secure) = match address {
                ListenAddress::Ws { .. } => ("ws", "wss"),
                other => (other.scheme(), "tls"),
            };
            checker
                .add(&key("tls"), format!("has no meaning for {scheme}://"))
                .help = Some(format!("write the url with {secure}://"));
        }
    } else if empty(&tls.cert) || empty(&tls.key) {
        checker
            .add(
                &key("url"),
                "needs a certificate and its key: set tls.cert and tls.key (--tls-cert and --tls-key)",
            )
            .help =
            Some("`martlet init --tls` makes some to try it with and prints the lines".to_owned());
    }
    for (number, sni) in tls.sni.iter().enumerate() {
        if empty(&sni.cert) || empty(&sni.key) {
            checker.add(
                &key(&format!("tls.sni[{number}]")),
                "needs both cert and key",
            );
        }
    }
    if tls.client_cert == ClientCert::None {
        for (name, path) in [
            ("tls.client_ca", &tls.client_ca),
            ("tls.client_crl", &tls.client_crl),
        ] {
            if !empty(path) {
                checker
                    .add(&key(name), "is of no use while clients show no certificate")
                    .help = Some("set tls.client_cert to \"optional\" or \"required\"".to_owned());
            }
        }
    } else if empty(&tls.client_ca) {
        checker.add(
            &key("tls.client_cert"),
            "needs the authorities to trust: set tls.client_ca",
        );
    }
    let from_proxy = listener.proxy_protocol && listener.identity == Identity::Cn;
    let from_certificate = !matches!(listener.identity, Identity::None | Identity::UnixUser);
    if from_certificate && tls.client_cert == ClientCert::None && !from_proxy {
        checker
            .add(
                &key("identity"),
                "needs client certificates, which this listener does not ask for",
            )
            .help = Some("set tls.client_cert to \"optional\" or \"required\"".to_owned());
    }
}

/// Networks, and who is believed.
fn access(index: usize, listener: &Listener, address: &ListenAddress, checker: &mut Checker<'_>) {
    const NETWORKS_MAX: usize = 1024;
    let key = |name: &str| format!("listeners[{index}].{name}");
    for (name, list) in [
        ("allow", &listener.allow),
        ("deny", &listener.deny),
        ("trusted_proxies", &listener.trusted_proxies),
    ] {
        if list.len() > NETWORKS_MAX {
            checker.add(&key(name), format!("has more than {NETWORKS_MAX} elements"));
        }
        for (number, text) in list.iter().enumerate() {
            if let Err(error) = text.parse::<Network>() {
                checker.add(
                    &key(&format!("{name}[{number}]")),
                    format!("is wrong: {error}"),
                );
            }
        }
    }
    let is_unix = matches!(address, ListenAddress::Unix(_));
    if listener.proxy_protocol && listener.trusted_proxies.is_empty() && !is_unix {
        checker.add(
            &key("proxy_protocol"),
            "needs to know whose word to take: set trusted_proxies",
        );
    }
    for (number, origin) in listener.websocket.origins.iter().enumerate() {
        let plain = origin.contains("://") && !origin.ends_with('/') || origin == "null";
        if !plain {
            checker
                .add(
                    &key(&format!("websocket.origins[{number}]")),
                    "is no origin as browsers send it",
                )
                .help = Some("write \"https://example.org\", without a path".to_owned());
        }
    }
    // Linux's own bound is in milliseconds.
    checker.range(
        &key("tcp_user_timeout_secs"),
        &listener.tcp_user_timeout_secs,
        &0,
        &86_400,
    );
}

/// What its clients are held to.
fn clients(index: usize, listener: &Listener, settings: &Settings, checker: &mut Checker<'_>) {
    let key = |name: &str| format!("listeners[{index}].{name}");
    for (number, name) in listener.users.iter().enumerate() {
        let known = |user: &User| user.name == *name;
        if !settings.broker.users.iter().any(known) {
            let key = key(&format!("users[{number}]"));
            checker.add(&key, "is none of the [[users]]").help =
                Some("`martlet passwd NAME` prints the lines to add".to_owned());
        }
    }
    if let Some(problem) = listener.policy().mount_point_problem() {
        checker.add(&key("mount_point"), problem);
    }
    if let Some(bytes) = &listener.mqtt.maximum_packet_size {
        checker.range(
            &key("mqtt.maximum_packet_size"),
            bytes,
            &64,
            &PACKET_BYTES_MAX,
        );
    }
    if let Some(maximum) = &listener.mqtt.receive_maximum {
        checker.at_least(&key("mqtt.receive_maximum"), maximum, &1);
    }
    if let Some(qos) = &listener.mqtt.maximum_qos {
        checker.range(&key("mqtt.maximum_qos"), qos, &0, &2);
    }
}

/// Settings that only some kinds of listeners have.
fn special(index: usize, listener: &Listener, address: &ListenAddress, checker: &mut Checker<'_>) {
    let key = |name: &str| format!("listeners[{index}].{name}");
    let is_unix = matches!(address, ListenAddress::Unix(_));
    if !address.is_web_socket() && listener.websocket != ListenerWebSocket::default() {
        checker.add(&key("websocket"), "has a meaning for ws:// and wss:// only");
    }
    if !is_unix && listener.unix != ListenerUnix::default() {
        checker.add(&key("unix"), "has a meaning for unix:// only");
    }
    if is_unix && !listener.interface.is_empty() {
        checker.add(&key("interface"), "has no meaning for unix://");
    }
    if listener.unix.permissions().is_none() {
        checker
            .add(&key("unix.mode"), "is no set of permissions")
            .help = Some("write three octal digits, such as \"660\"".to_owned());
    }
    if listener.proxy_protocol && address.scheme() == "quic" {
        checker.add(&key("proxy_protocol"), "has no meaning for quic://");
    }
    if listener.identity == Identity::UnixUser && !is_unix {
        checker.add(&key("identity"), "is known of unix:// only");
    }
}

/// Whether clients on other machines can reach this address.
pub(crate) fn is_loopback(address: &ListenAddress) -> bool {
    let Some(at) = address.host_port() else {
        return true;
    };
    at.host == "localhost" || at.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
