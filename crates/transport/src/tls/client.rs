//! The client's side.

use super::files::{self, TlsError};
use super::{TlsStream, TlsVersion, provider_with, versions};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where operating systems keep the certificates of the authorities they trust.
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
    "/opt/homebrew/etc/ca-certificates/cert.pem",
];

/// The settings of a TLS client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsClientOptions {
    /// PEM: the authorities to trust. `None`: those that the operating system trusts.
    pub ca: Option<PathBuf>,
    /// PEM: our certificate, then those that lead to an authority the server knows.
    pub certificate: Option<PathBuf>,
    /// PEM: its private key, not encrypted.
    pub key: Option<PathBuf>,
    /// Accepts a certificate that was made for another name. Its authority is checked all the same.
    pub insecure: bool,
    /// The oldest version. Default TLS 1.2.
    pub min_version: TlsVersion,
    /// Protocols to propose (ALPN). Default none.
    pub alpn: Vec<String>,
    /// The names of the cipher suites to offer; empty (default) for all that are safe.
    pub cipher_suites: Vec<String>,
}

impl TlsClientOptions {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub(crate) fn load(&self) -> Result<ClientConfig, TlsError> {
        let provider = provider_with(&self.cipher_suites)?;
        let roots = Arc::new(roots(self.ca.as_deref())?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| TlsError::new(error.to_string()))?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions(self.min_version))
            .map_err(|_| {
                TlsError::new("none of the chosen cipher suites belongs to an allowed TLS version")
            })?;
        let builder = if self.insecure {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyName(verifier)))
        } else {
            builder.with_webpki_verifier(verifier)
        };
        let mut config = match (&self.certificate, &self.key) {
            (Some(path), Some(key)) => {
                let chain = files::certificates(path, &files::read(path)?)?;
                builder
                    .with_client_auth_cert(chain, files::private_key(key)?)
                    .map_err(|error| TlsError::file(key, error.to_string()))?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => {
                return Err(TlsError::new(
                    "a client certificate and its key are given together or not at all",
                ));
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.clone().into()).collect();
        Ok(config)
    }
}

fn roots(path: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = path {
        for certificate in files::certificates(path, &files::read(path)?)? {
            roots
                .add(certificate)
                .map_err(|error| TlsError::file(path, error.to_string()))?;
        }
        return Ok(roots);
    }
    let Some(path) = SYSTEM_BUNDLES.iter().map(Path::new).find(|p| p.exists()) else {
        return Err(TlsError::new(
            "no list of trusted authorities was found on this system: name a file with them",
        ));
    };
    // Among a hundred there is always an odd one; the rest is what counts.
    roots.add_parsable_certificates(files::certificates(path, &files::read(path)?)?);
    Ok(roots)
}

/// What a connection with TLS to `host` needs; made before anything is sent, so that a file that cannot be read is named
/// whether or not the server is there.
pub(crate) struct TlsConnect {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TlsConnect {
    /// `host` is the name or address that the certificate must carry.
    pub(crate) fn new(host: &str, options: &TlsClientOptions) -> io::Result<Self> {
        let invalid = |error: TlsError| io::Error::new(io::ErrorKind::InvalidInput, error);
        let config = options.load().map_err(invalid)?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| invalid(TlsError::new(format!("`{host}` is no name for TLS"))))?;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { connector, name })
    }

    /// Connects over `stream`.
    pub(crate) async fn over(self, stream: TcpStream) -> io::Result<TlsStream> {
        let stream = self.connector.connect(self.name, stream).await?;
        Ok(TlsStream::new(stream.into()))
    }
}

/// Checks everything but the name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is what is looked at last.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
