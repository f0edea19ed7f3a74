//! Certificates from an authority that speaks ACME (RFC 8555): obtained, kept in a private directory, renewed in time.
//!
//! What comes out is one PEM file with the chain and its key, replaced as a whole. Whoever serves TLS names it as certificate
//! and key and reads it again when it changes; nothing else ties this crate to a broker. Names are proved by HTTP-01 or
//! TLS-ALPN-01 (RFC 8737), on a listener that is open only while the authority looks.
//!
//! Deliberately absent: DNS-01, which would need the interface of every DNS provider; revocation; a choice of keys
//! (ECDSA P-256); sharing a port with other listeners.

mod challenge;
mod files;
mod order;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

pub use challenge::Challenge;

/// After a failure the next attempt waits this long, then twice as long, up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_mins(1);
/// Authorities count failures by the hour; a certificate has weeks left when its renewal begins.
const RETRY_MAX: Duration = Duration::from_hours(6);
/// Longest sleep between two looks at the clock, which may be set.
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// Longest time that an order may take: an authority that says nothing is given up.
const ORDER_TIME_MAX: Duration = Duration::from_mins(5);

/// What is wanted from which authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The authority's directory, an `https://` address.
    pub directory: String,
    /// PEM: the authority of the directory's own certificate, where the system does not know it.
    pub root: Option<PathBuf>,
    /// The DNS names of the certificate, at least one.
    pub domains: Vec<String>,
    /// Where the authority writes to, as `mailto:` addresses. May be empty.
    pub contact: Vec<String>,
    /// That its terms of service were read and are agreed to. Most refuse otherwise.
    pub agrees_to_terms: bool,
    /// How the names are proved.
    pub challenge: Challenge,
    /// Where the authority comes to look. It comes to port 80 (HTTP-01) or 443 (TLS-ALPN-01); what it meets there must
    /// lead here.
    pub listen: SocketAddr,
    /// The directory with account and certificate; made if it is missing, private to its owner. The files are private in
    /// any case.
    pub folder: PathBuf,
}

/// Why there is no certificate, or no new one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcmeError {
    /// A file of the private directory.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The listener for the challenge cannot be opened.
    #[error("cannot listen on {address}, where the authority looks: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The authority cannot be reached, or refuses.
    #[error("{directory}: {what}: {reason}")]
    Authority {
        /// Its directory.
        directory: String,
        /// What was asked for.
        what: &'static str,
        /// Its words.
        reason: String,
    },
    /// The authority does not believe that a name is ours.
    #[error("{directory}: {domain} is not proved: {reason}")]
    Refused {
        /// The directory of the authority.
        directory: String,
        /// The name.
        domain: String,
        /// Its words.
        reason: String,
    },
    /// What the authority gave out cannot be used.
    #[error("{directory}: the new certificate {what}")]
    Unusable {
        /// The directory of the authority.
        directory: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Keys or certificates of our own.
    #[error("{0}")]
    Crypto(String),
}

/// Keeps one certificate.
#[derive(Clone, Debug)]
pub struct Keeper {
    settings: Settings,
}

impl Keeper {
    /// Makes the directory if it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(settings: Settings) -> Result<Self, AcmeError> {
        files::make_private(&settings.folder)?;
        Ok(Self { settings })
    }

    /// The PEM file with chain and key; it exists after the first [`Keeper::renew`].
    pub fn certificate(&self) -> PathBuf {
        Self::certificate_in(&self.settings.folder)
    }

    /// Where a keeper of `folder` keeps its certificate.
    pub fn certificate_in(folder: &Path) -> PathBuf {
        folder.join("certificate.pem")
    }

    /// When a new certificate is due: at once if there is none for these names, else when a third of its life is left.
    pub fn due(&self) -> SystemTime {
        let kept = files::kept(&self.certificate());
        match kept {
            Some(kept) if kept.names_all(&self.settings.domains) => kept.due(),
            _ => SystemTime::UNIX_EPOCH,
        }
    }

    /// Whether there is a certificate for these names, in time or not.
    pub fn has_certificate(&self) -> bool {
        files::kept(&self.certificate()).is_some_and(|kept| kept.names_all(&self.settings.domains))
    }

    /// Obtains a certificate and puts it in place. What is there stays if that fails.
    ///
    /// # Errors
    /// [`AcmeError`].
    pub async fn renew(&self) -> Result<(), AcmeError> {
        let pem = order::obtain(&self.settings).await?;
        let unusable = |what| AcmeError::Unusable {
            directory: self.settings.directory.clone(),
            what,
        };
        let new = files::parse(pem.as_bytes()).ok_or_else(|| unusable("cannot be read"))?;
        if !new.names_all(&self.settings.domains) {
            return Err(unusable("is for other names"));
        }
        files::replace(&self.certificate(), pem.as_bytes())
    }

    /// Renews when it is due, for ever, and tells the log. A failure is tried again after a minute, then twice that, up to
    /// six hours.
    pub async fn keep(&self) {
        let mut pause = RETRY_MIN;
        loop {
            match self.due().duration_since(SystemTime::now()) {
                Ok(left) if !left.is_zero() => {
                    tokio::time::sleep(left.min(LOOK_EVERY)).await;
                    continue;
                }
                _ => {}
            }
            let domains = self.settings.domains.join(", ");
            match self.renew().await {
                Ok(()) => tracing::info!(
                    event = "certificate_obtained",
                    domains,
                    "a certificate for {domains} was obtained"
                ),
                Err(error) => tracing::error!(
                    event = "certificate_not_obtained", domains, %error,
                    "no new certificate for {domains}: {error}"
                ),
            }
            // Also a new certificate may be due already, where the authority's clock is wrong or ours.
            if self.due() > SystemTime::now() {
                pause = RETRY_MIN;
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}
