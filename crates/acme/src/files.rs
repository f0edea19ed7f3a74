//! The private directory: who may look into it, how a file is replaced as a whole, what the certificate in it says.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{extensions::GeneralName, prelude::FromDer};

use crate::AcmeError;

fn at(path: &Path) -> impl FnOnce(io::Error) -> AcmeError {
    let path = PathBuf::from(path);
    move |source| AcmeError::File { path, source }
}

/// Makes `folder` for its owner only. One that is there stays as it is: its rights are somebody's decision.
pub(crate) fn make_private(folder: &Path) -> Result<(), AcmeError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(at(folder))
}

/// Puts `bytes` in the place of `path`, or leaves everything as it was. The file is its owner's only.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), AcmeError> {
    let beside = path.with_extension("new");
    let write = || -> io::Result<()> {
        // What an earlier attempt left may have other rights.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(at(path))
}

/// What a file contains; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, AcmeError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// What a certificate says.
pub(crate) struct Kept {
    names: Vec<String>,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Reads the certificate of `path`; `None` where there is none that can be read.
pub(crate) fn kept(path: &Path) -> Option<Kept> {
    parse(&read(path).ok()??)
}

/// Reads the first certificate of a chain in PEM; `None` if that cannot be done.
pub(crate) fn parse(pem: &[u8]) -> Option<Kept> {
    let der = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&der).ok()?;
    let time = |time: x509_parser::time::ASN1Time| {
        let secs = u64::try_from(time.timestamp()).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    };
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect();
    Some(Kept {
        names,
        not_before: time(certificate.validity().not_before),
        not_after: time(certificate.validity().not_after),
    })
}

impl Kept {
    /// Whether it is good for all of `domains`.
    pub(crate) fn names_all(&self, domains: &[String]) -> bool {
        domains
            .iter()
            .all(|domain| self.names.contains(&domain.to_ascii_lowercase()))
    }

    /// When a third of its life is left.
    pub(crate) fn due(&self) -> SystemTime {
        let life = self
            .not_after
            .duration_since(self.not_before)
            .unwrap_or_default();
        self.not_after - life / 3
    }
}
