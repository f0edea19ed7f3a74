//! What the authority meets when it looks: a file under a path over HTTP, or a certificate for the purpose over TLS.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use instant_acme::ChallengeType;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use crate::AcmeError;

/// How a name is proved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Challenge {
    /// A file that the authority fetches over HTTP from port 80.
    #[default]
    Http01,
    /// A certificate that it gets over TLS from port 443 (RFC 8737).
    TlsAlpn01,
}

impl Challenge {
    pub(crate) fn kind(self) -> ChallengeType {
        match self {
            Self::Http01 => ChallengeType::Http01,
            Self::TlsAlpn01 => ChallengeType::TlsAlpn01,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

/// What is proposed and agreed to for TLS-ALPN-01.
const ALPN: &[u8] = b"acme-tls/1";
/// Where HTTP-01 looks.
const PATH: &str = "/.well-known/acme-challenge/";
/// The longest request that is read.
const REQUEST_BYTES_MAX: usize = 4_096;
/// Longest time that one visitor may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Visitors at one time; authorities come from several places at once, and so does everybody else.
const VISITORS_MAX: usize = 64;

/// The listener, open as long as this lives.
pub(crate) struct Door {
    answers: Arc<Answers>,
    task: JoinHandle<()>,
}

/// What is answered: by token the words of HTTP-01, by name the certificates of TLS-ALPN-01.
#[derive(Debug, Default)]
struct Answers {
    files: Mutex<HashMap<String, String>>,
    certificates: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Door {
    pub(crate) async fn open(challenge: Challenge, address: SocketAddr) -> Result<Self, AcmeError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| AcmeError::Listen { address, source })?;
        let answers = Arc::new(Answers::default());
        let acceptor = match challenge {
            Challenge::Http01 => None,
            Challenge::TlsAlpn01 => Some(acceptor(Arc::clone(&answers))?),
        };
        let task = tokio::spawn(serve(listener, Arc::clone(&answers), acceptor));
        Ok(Self { answers, task })
    }

    /// Answers for `domain`.
    pub(crate) fn answer(
        &self,
        challenge: Challenge,
        domain: &str,
        token: &str,
        authorization: &instant_acme::KeyAuthorization,
    ) -> Result<(), AcmeError> {
        match challenge {
            Challenge::Http01 => {
                let mut files = lock(&self.answers.files);
                files.insert(token.to_owned(), authorization.as_str().to_owned());
            }
            Challenge::TlsAlpn01 => {
                let certificate = certificate(domain, authorization.digest().as_ref())?;
                let mut all = lock(&self.answers.certificates);
                all.insert(domain.to_ascii_lowercase(), Arc::new(certificate));
            }
        }
        Ok(())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A panic under one of these locks leaves a map as good as any.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ResolvesServerCert for Answers {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        lock(&self.certificates).get(&name).cloned()
    }
}

fn acceptor(answers: Arc<Answers>) -> Result<TlsAcceptor, AcmeError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| AcmeError::Crypto(error.to_string()))?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(answers);
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The certificate that proves `domain`: signed by itself, with the digest in an extension.
fn certificate(domain: &str, digest: &[u8]) -> Result<CertifiedKey, AcmeError> {
    let failed = |error: &dyn std::fmt::Display| AcmeError::Crypto(error.to_string());
    let mut params = CertificateParams::new([domain.to_owned()]).map_err(|error| failed(&error))?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let certificate = params.self_signed(&key).map_err(|error| failed(&error))?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| failed(&error))?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|error| failed(&error))?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

async fn serve(listener: TcpListener, answers: Arc<Answers>, acceptor: Option<TlsAcceptor>) {
    let places = Arc::new(Semaphore::new(VISITORS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, perhaps: it must not become a busy loop.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (answers, acceptor) = (Arc::clone(&answers), acceptor.clone());
        tokio::spawn(async move {
            let _place = place;
            // Whatever becomes of a visitor, the authority says what it saw.
            let _ = tokio::time::timeout(PATIENCE, visit(stream, &answers, acceptor)).await;
        });
    }
}

async fn visit(
    stream: TcpStream,
    answers: &Answers,
    acceptor: Option<TlsAcceptor>,
) -> io::Result<()> {
    match acceptor {
        // The handshake is all there is to see.
        Some(acceptor) => acceptor.accept(stream).await?.shutdown().await,
        None => answer_http(stream, answers).await,
    }
}

/// Reads one request and answers it.
async fn answer_http(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = (&mut stream).take(1_024).read_buf(&mut request).await?;
        if read == 0 || request.len() > REQUEST_BYTES_MAX {
            return Ok(());
        }
    }
    let line = request.split(|byte| *byte == b'\r').next();
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    let body = line.and_then(token_of).and_then(|token| {
        let files = lock(&answers.files);
        files.get(token).cloned()
    });
    let (status, body) = match body {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", String::new()),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// The token that a request line asks for.
fn token_of(line: &str) -> Option<&str> {
    let mut words = line.split(' ');
    let (method, path, version) = (words.next()?, words.next()?, words.next()?);
    let proper = method == "GET" && version.starts_with("HTTP/1.") && words.next().is_none();
    path.strip_prefix(PATH).filter(|_| proper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_get_of_a_token_is_answered() {
        let check = |line, expected| assert_eq!(token_of(line), expected, "{line}");
        check("GET /.well-known/acme-challenge/abc HTTP/1.1", Some("abc"));
        check("GET /.well-known/acme-challenge/abc HTTP/1.0", Some("abc"));
        check("GET /.well-known/acme-challenge/ HTTP/1.1", Some(""));
        check("GET /.well-known/acme-challenge/a b HTTP/1.1", None);
        check("POST /.well-known/acme-challenge/abc HTTP/1.1", None);
        check("GET / HTTP/1.1", None);
        check("GET", None);
        check("", None);
    }
}
