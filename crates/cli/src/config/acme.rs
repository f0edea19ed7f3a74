//! The `[acme]` table: a certificate from an authority that speaks ACME.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::checks::Checker;

/// A certificate that is obtained and renewed without anybody's help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Acme {
    /// The DNS names of the certificate; none (the default) for no such certificate.
    pub domains: Vec<String>,
    /// Whether the authority's terms of service are agreed to. Default false.
    pub agree_to_terms: bool,
    /// Where the authority writes to, such as `mailto:ada@example.org`. Default nowhere.
    pub contact: Vec<String>,
    /// The authority's directory. Default that of Let's Encrypt.
    pub directory: String,
    /// PEM: the authority of the directory's own certificate; empty (the default) for those of the system.
    pub ca: PathBuf,
    /// How the names are proved. Default `http-01`.
    pub challenge: AcmeChallenge,
    /// Where the authority looks; empty (the default) for port 80 or 443 of every address.
    pub listen: String,
    /// The private directory with account and certificate. Default `martlet-acme`.
    pub path: PathBuf,
}

/// How names are proved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AcmeChallenge {
    /// A file that the authority fetches over HTTP.
    #[default]
    #[serde(rename = "http-01")]
    Http01,
    /// A certificate that it gets over TLS.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            agree_to_terms: false,
            contact: Vec::new(),
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            ca: PathBuf::new(),
            challenge: AcmeChallenge::Http01,
            listen: String::new(),
            path: PathBuf::from("martlet-acme"),
        }
    }
}

impl Acme {
    /// Whether a certificate is wanted.
    pub fn is_wanted(&self) -> bool {
        !self.domains.is_empty()
    }

    /// The file with chain and key, which listeners name.
    pub fn certificate(&self) -> PathBuf {
        self.path.join("certificate.pem")
    }

    /// Whether `file` is the certificate that is still to come.
    pub fn will_make(&self, file: &Path) -> bool {
        self.is_wanted() && file == self.certificate() && !file.exists()
    }

    /// Where the authority looks. `None` if that is no address.
    pub fn listen(&self) -> Option<SocketAddr> {
        let port = match self.challenge {
            AcmeChallenge::Http01 => 80,
            AcmeChallenge::TlsAlpn01 => 443,
        };
        if self.listen.is_empty() {
            return Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port));
        }
        self.listen.parse().ok()
    }
}

pub(super) fn check(acme: &Acme, checker: &mut Checker<'_>) {
    if acme.listen().is_none() {
        checker.add("acme.listen", "is no address with a port").help =
            Some("write it as \"0.0.0.0:80\"".to_owned());
    }
    if acme.is_wanted() && !acme.directory.starts_with("https://") {
        checker.add("acme.directory", "does not begin with https://");
    }
    if acme.is_wanted() && acme.path.as_os_str().is_empty() {
        checker.add("acme.path", "is empty");
    }
    let odd = |name: &&String| name.is_empty() || name.contains(['*', '/', ':', ' ']);
    if let Some(name) = acme.domains.iter().find(odd) {
        checker
            .add(
                "acme.domains",
                format!("has \"{name}\", which cannot be proved so"),
            )
            .help = Some("write DNS names, without wildcards".to_owned());
    }
}
