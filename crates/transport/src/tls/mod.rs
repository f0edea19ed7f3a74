//! TLS 1.2 and 1.3 with rustls, both sides.
//!
//! [`files`] reads PEM files, [`server`] makes a configuration of them and renews it when they
//! change, [`names`] finds the certificate for a server name, [`client`] is the other side,
//! [`certificate`] says what a certificate says, [`stream`] is the byte stream.
//!
//! Deliberately absent: 0-RTT (what it carries can be replayed), renegotiation, TLS below 1.2,
//! OCSP, and a process-wide default provider: ours is named wherever one is needed, so that an
//! embedding program may use another.

mod certificate;
mod client;
mod files;
mod names;
mod server;
mod stream;

pub use certificate::PeerCertificate;
pub use client::TlsClientOptions;
pub(crate) use client::TlsConnect;
pub use files::TlsError;
pub use server::{CertificateFiles, ClientAuth, TlsOptions, TlsVersion};
pub(crate) use server::{OverQuic, TlsServer};
pub use stream::TlsStream;

use rustls::crypto::CryptoProvider;
use std::sync::Arc;

/// The cryptography of this crate.
fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// The versions from `min` on.
fn versions(min: TlsVersion) -> Vec<&'static rustls::SupportedProtocolVersion> {
    match min {
        TlsVersion::V1_2 => vec![&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => vec![&rustls::version::TLS13],
    }
}

/// Our provider with these cipher suites only, in this order; all of them when there are none.
fn provider_with(suites: &[String]) -> Result<Arc<CryptoProvider>, TlsError> {
    let mut provider = provider();
    if suites.is_empty() {
        return Ok(Arc::new(provider));
    }
    let known: Vec<(rustls::SupportedCipherSuite, String)> = provider
        .cipher_suites
        .iter()
        .map(|suite| (*suite, suite_name(*suite)))
        .collect();
    let mut chosen = Vec::new();
    for wanted in suites {
        let Some((suite, _)) = known.iter().find(|(_, name)| name == wanted) else {
            let names: Vec<&str> = known.iter().map(|(_, name)| name.as_str()).collect();
            return Err(TlsError::new(format!(
                "unknown cipher suite `{wanted}`: there are {}",
                names.join(", ")
            )));
        };
        if !chosen.contains(suite) {
            chosen.push(*suite);
        }
    }
    provider.cipher_suites = chosen;
    Ok(Arc::new(provider))
}

/// The name the IANA gave it.
fn suite_name(suite: rustls::SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cipher_suites_are_chosen_by_their_names() {
        let check = |names: &[&str], result: Result<&[&str], &str>| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            match (provider_with(&names), result) {
                (Ok(provider), Ok(expected)) => {
                    let chosen: Vec<String> = provider
                        .cipher_suites
                        .iter()
                        .map(|suite| suite_name(*suite))
                        .collect();
                    assert_eq!(chosen, expected);
                }
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{error}");
                }
                (result, _) => panic!("{names:?}: {result:?}"),
            }
        };
        let aes = "TLS_AES_128_GCM_SHA256";
        let old = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256";
        check(&[old, aes, old], Ok(&[old, aes]));
        check(&["RC4"], Err("`RC4`: there are TLS_"));
        assert!(provider_with(&[]).is_ok_and(|all| all.cipher_suites.len() > 6));
    }
}
