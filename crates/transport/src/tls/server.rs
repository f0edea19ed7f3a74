//! The server's configuration: read from files, renewed when they change, never half.

use super::certificate::PeerCertificate;
use super::files::{self, Stamp, TlsError};
use super::names::ByName;
use super::{TlsStream, provider_with, versions};
use crate::close::close_gracefully;
use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// How long a peer whose handshake failed gets to read why.
const REFUSAL_LINGER: Duration = Duration::from_secs(1);

/// A TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked for one.
    #[default]
    None,
    /// They may; one that does not verify is refused.
    Optional,
    /// They must.
    Required,
}

/// A certificate and its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate, then those that lead to a known authority.
    pub certificate: PathBuf,
    /// PEM: the private key, not encrypted.
    pub key: PathBuf,
}

/// The settings of a TLS listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// At least one. The DNS names in each decide who is shown it; the first one serves whoever
    /// asks for none of them.
    pub certificates: Vec<CertificateFiles>,
    /// The oldest version. Default TLS 1.2.
    pub min_version: TlsVersion,
    /// The names of the cipher suites to offer, as the IANA has them, the preferred one first;
    /// empty (default) for all that are safe.
    pub cipher_suites: Vec<String>,
    /// Whether clients show a certificate. Default: they are not asked.
    pub client_auth: ClientAuth,
    /// PEM: the authorities whose client certificates are accepted.
    pub client_ca: Option<PathBuf>,
    /// PEM: revocation lists of these authorities. With one, a client certificate is refused when
    /// it is on it, when its issuer has none, and when the list is out of date.
    pub client_crl: Option<PathBuf>,
    /// Whether clients may resume sessions, with tickets whose keys change every 6 hours. Default
    /// false here, so that embedding programs choose; the configuration file's default is true.
    pub session_tickets: bool,
}

impl TlsOptions {
    /// Reads all files and checks everything that a listener would.
    ///
    /// # Errors
    /// What is wrong, with the file where one is to blame.
    pub fn check(&self) -> Result<(), TlsError> {
        load(self, &[], None, None).map(drop)
    }
}

/// What QUIC wants besides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OverQuic {
    pub(crate) keepalive_secs: Option<u32>,
}

/// The TLS side of a listener.
pub(crate) struct TlsServer {
    options: TlsOptions,
    alpn: Vec<Vec<u8>>,
    quic: Option<OverQuic>,
    current: ArcSwap<Current>,
    /// Stamps of the files at the last attempt to read them, successful or not.
    tried: Mutex<Vec<Option<Stamp>>>,
}

impl std::fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsServer")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

struct Current {
    config: Arc<ServerConfig>,
    #[cfg(feature = "quic")]
    quic: Option<Arc<quinn::ServerConfig>>,
    /// The contents of the files about clients: sessions that began under others are not resumed.
    trust: Vec<Vec<u8>>,
    /// When the first of the certificates expires.
    not_after: SystemTime,
}

impl TlsServer {
    /// Reads all files. `alpn` is what is agreed to with clients that propose protocols.
    pub(crate) fn load(
        mut options: TlsOptions,
        alpn: &[&str],
        quic: Option<OverQuic>,
    ) -> Result<Self, TlsError> {
        if quic.is_some() {
            // There is no QUIC with anything older.
            options.min_version = TlsVersion::V1_3;
        }
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let tried = stamps(&options);
        let current = load(&options, &alpn, quic, None)?;
        Ok(Self {
            options,
            alpn,
            quic,
            current: ArcSwap::from_pointee(current),
            tried: Mutex::new(tried),
        })
    }

    /// Reads all files again. What is wrong changes nothing.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner) = stamps(&self.options);
        let before = self.current.load();
        let next = load(&self.options, &self.alpn, self.quic, Some(&before))?;
        self.current.store(Arc::new(next));
        Ok(())
    }

    /// The same if a file looks different from the last attempt; `None` if none does.
    pub(crate) fn reload_if_changed(&self) -> Option<Result<(), TlsError>> {
        let now = stamps(&self.options);
        let unchanged = *self.tried.lock().unwrap_or_else(PoisonError::into_inner) == now;
        (!unchanged).then(|| self.reload())
    }

    /// When the first of the certificates in use expires.
    pub(crate) fn not_after(&self) -> SystemTime {
        self.current.load().not_after
    }

    /// What the next QUIC connection is met with.
    #[cfg(feature = "quic")]
    pub(crate) fn quic(&self) -> Option<Arc<quinn::ServerConfig>> {
        self.current.load().quic.clone()
    }

    /// The handshake.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream> {
        let config = Arc::clone(&self.current.load().config);
        let accept = TlsAcceptor::from(config).accept(stream).into_fallible();
        match accept.await {
            Ok(stream) => Ok(TlsStream::new(stream.into())),
            Err((error, stream)) => {
                // The alert is written; a close with unread input would destroy it.
                close_gracefully(stream, REFUSAL_LINGER).await;
                Err(error)
            }
        }
    }
}

fn stamps(options: &TlsOptions) -> Vec<Option<Stamp>> {
    let certificates = options
        .certificates
        .iter()
        .flat_map(|files| [&files.certificate, &files.key]);
    certificates
        .chain(&options.client_ca)
        .chain(&options.client_crl)
        .map(|path| Stamp::of(path))
        .collect()
}

fn load(
    options: &TlsOptions,
    alpn: &[Vec<u8>],
    quic: Option<OverQuic>,
    before: Option<&Current>,
) -> Result<Current, TlsError> {
    let provider = provider_with(&options.cipher_suites)?;
    let mut resolver: Option<ByName> = None;
    let mut not_after: Option<SystemTime> = None;
    for files in &options.certificates {
        let (certificate, facts) = certified_key(files, &provider)?;
        let certificate = Arc::new(certificate);
        let names = resolver.get_or_insert_with(|| ByName::new(Arc::clone(&certificate)));
        for name in &facts.dns_names {
            names.add(name, &certificate);
        }
        not_after = Some(not_after.map_or(facts.not_after, |first| first.min(facts.not_after)));
    }
    let (Some(resolver), Some(not_after)) = (resolver, not_after) else {
        return Err(TlsError::new("TLS needs a certificate and its key"));
    };
    let mut trust = Vec::new();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(options.min_version))
        .map_err(|_| {
            TlsError::new("none of the chosen cipher suites belongs to an allowed TLS version")
        })?;
    let builder = match options.client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        auth => builder
            .with_client_cert_verifier(client_verifier(options, auth, &provider, &mut trust)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = alpn.to_vec();
    // Whoever lists cipher suites has a reason for their order.
    config.ignore_client_order = !options.cipher_suites.is_empty();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if options.session_tickets {
        config.ticketer = ticketer(before, &trust)?;
    } else {
        config.send_tls13_tickets = 0;
    }
    let config = Arc::new(config);
    #[cfg(not(feature = "quic"))]
    let _ = quic.map(|quic| quic.keepalive_secs);
    Ok(Current {
        #[cfg(feature = "quic")]
        quic: quic
            .map(|quic| crate::quic::server_config(&config, quic.keepalive_secs))
            .transpose()?
            .map(Arc::new),
        config,
        trust,
        not_after,
    })
}

/// New keys when other clients are trusted than before: a ticket would get around it.
fn ticketer(
    before: Option<&Current>,
    trust: &[Vec<u8>],
) -> Result<Arc<dyn ProducesTickets>, TlsError> {
    match before {
        Some(before) if before.trust == trust => Ok(Arc::clone(&before.config.ticketer)),
        _ => rustls::crypto::aws_lc_rs::Ticketer::new()
            .map_err(|error| TlsError::new(format!("no keys for session tickets: {error}"))),
    }
}

/// Reads a certificate with its key and checks that they belong together and are valid now.
fn certified_key(
    files: &CertificateFiles,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, PeerCertificate), TlsError> {
    let path = files.certificate.as_path();
    if path.as_os_str().is_empty() || files.key.as_os_str().is_empty() {
        return Err(TlsError::new("TLS needs a certificate and its key"));
    }
    let chain = files::certificates(path, &files::read(path)?)?;
    let facts = chain
        .first()
        .and_then(|leaf| PeerCertificate::parse(leaf))
        .ok_or_else(|| TlsError::file(path, "its first certificate cannot be read"))?;
    check_validity(path, &facts)?;
    let key = files::private_key(&files.key)?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| TlsError::file(&files.key, format!("unusable private key: {error}")))?;
    let certificate = CertifiedKey::new(chain, key);
    match certificate.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => {
            return Err(TlsError::file(
                &files.key,
                format!(
                    "this is not the private key of the certificate in {}",
                    path.display()
                ),
            ));
        }
    }
    Ok((certificate, facts))
}

fn check_validity(path: &Path, facts: &PeerCertificate) -> Result<(), TlsError> {
    let now = SystemTime::now();
    let days = |distance: Duration| distance.as_secs() / 86_400;
    if let Ok(past) = now.duration_since(facts.not_after)
        && !past.is_zero()
    {
        let reason = format!(
            "the certificate of {} expired {} days ago",
            facts.subject,
            days(past)
        );
        return Err(TlsError::file(path, reason));
    }
    // Clocks of small machines are a little late at times.
    let early = facts.not_before.duration_since(now).unwrap_or_default();
    if early > Duration::from_hours(1) {
        let reason = format!(
            "the certificate of {} is not valid before {} days from now (is the clock right?)",
            facts.subject,
            days(early) + 1
        );
        return Err(TlsError::file(path, reason));
    }
    Ok(())
}

fn client_verifier(
    options: &TlsOptions,
    auth: ClientAuth,
    provider: &Arc<CryptoProvider>,
    trust: &mut Vec<Vec<u8>>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let Some(path) = &options.client_ca else {
        return Err(TlsError::new(
            "client certificates need the authorities to trust (client_ca)",
        ));
    };
    let bytes = files::read(path)?;
    let mut roots = RootCertStore::empty();
    for (index, certificate) in files::certificates(path, &bytes)?.into_iter().enumerate() {
        roots
            .add(certificate)
            .map_err(|error| TlsError::file(path, format!("certificate {}: {error}", index + 1)))?;
    }
    trust.push(bytes);
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if auth == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    let mut blamed = path;
    if let Some(path) = &options.client_crl {
        let bytes = files::read(path)?;
        builder = builder
            .with_crls(files::revocation_lists(path, &bytes)?)
            .only_check_end_entity_revocation()
            .enforce_revocation_expiration();
        trust.push(bytes);
        blamed = path;
    }
    builder
        .build()
        .map_err(|error| TlsError::file(blamed, error.to_string()))
}
