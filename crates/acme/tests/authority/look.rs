//! How the authority finds out whether a name is proved: it connects and compares.

use std::{net::SocketAddr, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls13_signature_with_raw_key},
};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

/// RFC 8737, section 6.1.
const ACME_IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";

/// HTTP-01: the file is there and says what it must.
pub(crate) async fn http(
    address: SocketAddr,
    domain: &str,
    token: &str,
    expected: &str,
) -> Result<(), String> {
    let mut stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("{domain}: {error}"))?;
    let request =
        format!("GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {domain}\r\n\r\n");
    let mut answer = String::new();
    let talked = async {
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_string(&mut answer).await
    };
    talked.await.map_err(|error| error.to_string())?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") && body == expected => Ok(()),
        _ => Err(format!("{domain} says {answer:?}")),
    }
}

/// TLS-ALPN-01: the certificate is for the name and nothing else, and carries the digest.
pub(crate) async fn tls(address: SocketAddr, domain: &str, expected: &str) -> Result<(), String> {
    let words = |error: &dyn std::fmt::Display| format!("{domain}: {error}");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| words(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| words(&error))?;
    let name = ServerName::try_from(domain.to_owned()).map_err(|error| words(&error))?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| words(&error))?;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(b"acme-tls/1") {
        return Err("another protocol".into());
    }
    let der = session.peer_certificates().and_then(|all| all.first());
    let der = der.ok_or("no certificate")?;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| words(&error))?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| words(&error))?
        .ok_or("no name")?;
    if !matches!(names.value.general_names.as_slice(), [GeneralName::DNSName(own)] if *own == domain)
    {
        return Err("another name".into());
    }
    // An OCTET STRING of 32 bytes.
    let mut value = vec![0x04, 0x20];
    value.extend(digest(&SHA256, expected.as_bytes()).as_ref());
    let proof = certificate
        .extensions()
        .iter()
        .find(|extension| extension.oid.to_id_string() == ACME_IDENTIFIER)
        .ok_or("no proof")?;
    if !proof.critical || proof.value != value {
        return Err("another proof".into());
    }
    Ok(())
}

/// Takes every certificate: what it says is looked at afterwards.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 was not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // By the key alone: the extension with the proof is critical, and webpki refuses what it does not know.
        let (_, certificate) = X509Certificate::from_der(certificate)
            .map_err(|error| Error::General(error.to_string()))?;
        let key = SubjectPublicKeyInfoDer::from(certificate.public_key().raw);
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
