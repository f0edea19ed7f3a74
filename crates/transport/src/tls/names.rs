//! Which certificate is shown to a client that asks for a server name.

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// Certificates by the DNS names they carry; the first one is shown to whoever asks for no name,
/// an address, or a name that none of them carries.
#[derive(Debug)]
pub(crate) struct ByName {
    first: Arc<CertifiedKey>,
    /// In lower case; wildcards as `*.example.org`.
    names: HashMap<String, Arc<CertifiedKey>>,
}

impl ByName {
    pub(crate) fn new(first: Arc<CertifiedKey>) -> Self {
        Self {
            first,
            names: HashMap::new(),
        }
    }

    /// The earliest certificate with a name keeps it.
    pub(crate) fn add(&mut self, name: &str, certificate: &Arc<CertifiedKey>) {
        self.names
            .entry(name.to_ascii_lowercase())
            .or_insert_with(|| Arc::clone(certificate));
    }

    fn find(&self, name: &str) -> &Arc<CertifiedKey> {
        let name = name.to_ascii_lowercase();
        let wildcard = || {
            let (_, parent) = name.split_once('.')?;
            self.names.get(&format!("*.{parent}"))
        };
        self.names
            .get(&name)
            .or_else(wildcard)
            .unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(match hello.server_name() {
            Some(name) => self.find(name),
            None => &self.first,
        }))
    }
}
