//! Rules between and about the settings of listeners. Files are looked at by whoever uses them, not here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use martlet_transport::ListenAddress;

use super::checks::Checker;
use super::settings::{ClientCert, Identity, Listener, ListenerTls, Settings};

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
                "needs a certificate and its key: set tls.cert and tls.key",
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
    if listener.identity != Identity::None && tls.client_cert == ClientCert::None {
        checker
            .add(
                &key("identity"),
                "needs client certificates, which this listener does not ask for",
            )
            .help = Some("set tls.client_cert to \"optional\" or \"required\"".to_owned());
    }
}

/// Whether clients on other machines can reach this address.
pub(crate) fn is_loopback(address: &ListenAddress) -> bool {
    let Some(at) = address.host_port() else {
        return true;
    };
    at.host == "localhost" || at.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
