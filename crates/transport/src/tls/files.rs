//! PEM files: certificates, keys, revocation lists, and the errors that name them.

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Largest file that is read: revocation lists of large authorities have some MiB.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why TLS cannot be set up: the file, where one is to blame, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    file: Option<PathBuf>,
    reason: String,
}

impl TlsError {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            file: None,
            reason: reason.into(),
        }
    }

    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self {
            file: Some(path.to_owned()),
            reason: reason.into(),
        }
    }

    /// The file that is to blame.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What is wrong, without the file.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}: {}", file.display(), self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for TlsError {}

/// Reads a whole file of bounded size.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |error| TlsError::file(path, format!("cannot be read: {error}"));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsError::file(
            path,
            format!("larger than {} MiB", FILE_BYTES_MAX >> 20),
        ));
    }
    Ok(bytes)
}

/// The certificates of a PEM file, at least one.
pub(crate) fn certificates(
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    all(path, CertificateDer::pem_slice_iter(bytes), "certificate")
}

/// The revocation lists of a PEM file, at least one.
pub(crate) fn revocation_lists(
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    all(
        path,
        CertificateRevocationListDer::pem_slice_iter(bytes),
        "revocation list",
    )
}

fn all<T>(
    path: &Path,
    items: impl Iterator<Item = Result<T, pem::Error>>,
    what: &str,
) -> Result<Vec<T>, TlsError> {
    let items: Vec<T> = items
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::file(path, format!("is not proper PEM: {error}")))?;
    if items.is_empty() {
        return Err(TlsError::file(path, format!("contains no {what} in PEM")));
    }
    Ok(items)
}

/// The first private key of a PEM file.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        // The key itself is never repeated.
        pem::Error::NoItemsFound if bytes.windows(9).any(|part| part == b"ENCRYPTED") => {
            TlsError::file(
                path,
                "the private key is encrypted: `openssl pkey -in FILE -out NEW` takes the \
                 password off",
            )
        }
        pem::Error::NoItemsFound => TlsError::file(path, "contains no private key in PEM"),
        error => TlsError::file(path, format!("is not proper PEM: {error}")),
    })
}

/// What tells whether a file may have changed since it was last looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

impl Stamp {
    /// Of the file behind `path`, symbolic links followed; `None` when there is none to see.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Self {
            modified: metadata.modified().ok(),
            len: metadata.len(),
            inode,
        })
    }
}
