//! TLS listeners: who is shown which certificate, who is let in, and what a change of files does.

mod common;

use common::certs::{Certs, replace};
use common::listen;
use martlet_transport::{
    BindError, ClientAuth, ConnectAddress, ConnectOptions, EstablishError, Established,
    IdentitySource, ListenAddress, Listener, ListenerOptions, Stream, TlsClientOptions, TlsOptions,
    TlsVersion, connect,
};
use rcgen::{SanType, date_time_ymd};
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection; what each side says of it.
async fn meet(
    listener: &mut Listener,
    address: &ConnectAddress,
    tls: TlsClientOptions,
) -> (io::Result<Stream>, Result<Established, EstablishError>) {
    let options = ConnectOptions {
        tls,
        ..ConnectOptions::default()
    };
    let client = async {
        let mut stream = connect(address, &options).await?;
        // Under TLS 1.3 a client hears of a refusal when it reads for the first time.
        let mut hello = [0; 2];
        stream.read_exact(&mut hello).await?;
        Ok(stream)
    };
    let server = async {
        let mut established = listener.accept().await.unwrap().establish().await?;
        established.stream.write_all(b"hi").await.unwrap();
        established.stream.flush().await.unwrap();
        Ok(established)
    };
    tokio::join!(client, server)
}

async fn refused_at_bind(tls: TlsOptions, parts: &[&str]) {
    let address: ListenAddress = "tls://127.0.0.1:0".parse().unwrap();
    let options = ListenerOptions {
        tls,
        ..ListenerOptions::default()
    };
    let error = Listener::bind(&address, &options)
        .await
        .expect_err("refused");
    assert!(matches!(error, BindError::Tls { .. }), "{error:?}");
    let words = error.to_string();
    for part in parts.iter().chain(&["tls://127.0.0.1:0"]) {
        assert!(words.contains(part), "{part} is not in: {words}");
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_at_the_start_and_named() {
    let certs = Certs::new();
    certs.issue("other", &["other"], |_| {});
    certs.issue("old", &["old"], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    certs.issue("early", &["early"], |params| {
        params.not_before = date_time_ymd(2090, 1, 1);
        params.not_after = date_time_ymd(2091, 1, 1);
    });
    std::fs::write(certs.path("garbage.pem"), "-----BEGIN CERTIFICATE-----\n!").unwrap();
    std::fs::write(certs.path("empty.pem"), "").unwrap();
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----";
    std::fs::write(certs.path("locked.key"), locked).unwrap();
    let with = |certificate: &str, key: &str| {
        let mut tls = certs.tls();
        tls.certificates[0].certificate = certs.path(certificate);
        tls.certificates[0].key = certs.path(key);
        tls
    };
    refused_at_bind(TlsOptions::default(), &["a certificate and its key"]).await;
    refused_at_bind(
        with("missing.pem", "server.key"),
        &["missing.pem", "cannot be read"],
    )
    .await;
    refused_at_bind(
        with("server.pem", "missing.key"),
        &["missing.key", "cannot be read"],
    )
    .await;
    refused_at_bind(with("garbage.pem", "server.key"), &["garbage.pem", "PEM"]).await;
    refused_at_bind(
        with("empty.pem", "server.key"),
        &["contains no certificate"],
    )
    .await;
    refused_at_bind(
        with("server.pem", "empty.pem"),
        &["contains no private key"],
    )
    .await;
    refused_at_bind(
        with("server.pem", "locked.key"),
        &["is encrypted", "openssl"],
    )
    .await;
    refused_at_bind(
        with("server.pem", "other.key"),
        &["other.key", "not the private key", "server.pem"],
    )
    .await;
    refused_at_bind(with("old.pem", "old.key"), &["old.pem", "expired"]).await;
    refused_at_bind(
        with("early.pem", "early.key"),
        &["early.pem", "not valid before"],
    )
    .await;
    let mut tls = certs.tls();
    tls.cipher_suites = vec!["TLS_NULL".into()];
    refused_at_bind(tls, &["`TLS_NULL`", "TLS_AES_128_GCM_SHA256"]).await;
    let mut tls = certs.tls();
    tls.min_version = TlsVersion::V1_3;
    tls.cipher_suites = vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".into()];
    refused_at_bind(tls, &["none of the chosen cipher suites"]).await;
    let mut tls = certs.tls();
    tls.client_auth = ClientAuth::Required;
    refused_at_bind(tls.clone(), &["client_ca"]).await;
    tls.client_ca = Some(certs.path("missing.pem"));
    refused_at_bind(tls.clone(), &["missing.pem", "cannot be read"]).await;
    tls.client_ca = Some(certs.path("ca.pem"));
    tls.client_crl = Some(certs.path("server.pem"));
    refused_at_bind(tls, &["server.pem", "contains no revocation list"]).await;
}

#[tokio::test]
async fn versions_and_cipher_suites_are_kept() {
    let certs = Certs::new();
    let mut options = certs.listener_options();
    options.tls.cipher_suites = vec![
        "TLS_AES_256_GCM_SHA384".into(),
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256".into(),
    ];
    let (mut listener, address) = listen("tls://127.0.0.1:0", &options).await;
    let (client, server) = meet(&mut listener, &address, certs.client_tls()).await;
    let cipher = client.unwrap().tls().unwrap().cipher();
    assert_eq!(cipher, "TLSv1_3 TLS13_AES_256_GCM_SHA384");
    assert!(server.unwrap().certificate.is_none());

    let old = TlsClientOptions {
        cipher_suites: vec!["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256".into()],
        ..certs.client_tls()
    };
    let (client, _) = meet(&mut listener, &address, old.clone()).await;
    let cipher = client.unwrap().tls().unwrap().cipher();
    assert!(cipher.starts_with("TLSv1_2 "), "{cipher}");

    let mut options = certs.listener_options();
    options.tls.min_version = TlsVersion::V1_3;
    let (mut listener, address) = listen("tls://127.0.0.1:0", &options).await;
    let (client, server) = meet(&mut listener, &address, old).await;
    client.expect_err("too old");
    let error = server.expect_err("too old").to_string();
    assert!(error.contains("TLS handshake"), "{error}");
}

#[tokio::test]
async fn the_server_name_chooses_the_certificate() {
    let certs = Certs::new();
    certs.issue("wild", &["*.example.org"], |_| {});
    certs.issue("one", &["one.example.org"], |_| {});
    let mut options = certs.listener_options();
    options.tls.certificates = ["server", "wild", "one"]
        .map(|name| certs.files(name))
        .into();
    let (mut listener, _) = listen("tls://127.0.0.1:0", &options).await;
    let mut roots = rustls::RootCertStore::empty();
    let ca = std::fs::read(certs.path("ca.pem")).unwrap();
    let ca = rustls::pki_types::pem::PemObject::from_pem_slice(&ca).unwrap();
    roots.add(ca).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    for (name, accepted) in [
        ("localhost", true),
        ("127.0.0.1", true),
        ("two.example.org", true),
        ("ONE.example.org", true),
        ("a.b.example.org", false),
        ("example.org", false),
    ] {
        let stream = TcpStream::connect(listener.local_addr()).await.unwrap();
        let name = ServerName::try_from(name).unwrap();
        let (client, _server) = tokio::join!(connector.connect(name.clone(), stream), async {
            listener.accept().await.unwrap().establish().await
        });
        assert_eq!(client.is_ok(), accepted, "{name:?}");
    }
}

#[tokio::test]
async fn alpn_is_agreed_upon_or_the_peer_refused() {
    let certs = Certs::new();
    for (url, offered, agreed) in [
        ("tls://127.0.0.1:0", &[][..], Some(None)),
        ("tls://127.0.0.1:0", &["x", "mqtt"][..], Some(Some("mqtt"))),
        ("tls://127.0.0.1:0", &["h2"][..], None),
        (
            "wss://127.0.0.1:0",
            &["h2", "http/1.1"][..],
            Some(Some("http/1.1")),
        ),
        ("wss://127.0.0.1:0", &[][..], Some(None)),
    ] {
        let (mut listener, address) = listen(url, &certs.listener_options()).await;
        let tls = TlsClientOptions {
            alpn: offered.iter().map(|name| (*name).to_owned()).collect(),
            ..certs.client_tls()
        };
        let (client, _) = meet(&mut listener, &address, tls).await;
        let alpn = client.ok().map(|stream| {
            let protocol = stream.tls().unwrap().alpn_protocol();
            protocol.map(|name| String::from_utf8(name.to_vec()).unwrap())
        });
        let agreed = agreed.map(|agreed| agreed.map(str::to_owned));
        assert_eq!(alpn, agreed, "{url} {offered:?}");
    }
}

/// A listener that wants certificates, and a client `ada` that has one.
fn mutual(auth: ClientAuth) -> (Certs, ListenerOptions, TlsClientOptions) {
    let certs = Certs::new();
    certs.issue("ada", &["ada.example"], |params| {
        let mail = "ada@example.org".try_into().unwrap();
        params.subject_alt_names.push(SanType::Rfc822Name(mail));
        let uri = "urn:ada".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
    });
    let mut options = certs.listener_options();
    options.tls.client_auth = auth;
    options.tls.client_ca = Some(certs.path("ca.pem"));
    let client = TlsClientOptions {
        certificate: Some(certs.path("ada.pem")),
        key: Some(certs.path("ada.key")),
        ..certs.client_tls()
    };
    (certs, options, client)
}

#[tokio::test]
async fn a_client_certificate_says_who_the_client_is() {
    for (source, expected) in [
        (None, None),
        (Some(IdentitySource::CommonName), Some("ada")),
        (Some(IdentitySource::Subject), Some("CN=ada")),
        (Some(IdentitySource::DnsName), Some("ada.example")),
        (Some(IdentitySource::Uri), Some("urn:ada")),
        (Some(IdentitySource::Email), Some("ada@example.org")),
    ] {
        let (_certs, mut options, client) = mutual(ClientAuth::Required);
        options.identity = source;
        let (mut listener, address) = listen("tls://127.0.0.1:0", &options).await;
        let (_client, server) = meet(&mut listener, &address, client).await;
        let server = server.unwrap();
        assert_eq!(server.identity.as_deref(), expected, "{source:?}");
        assert_eq!(server.certificate.unwrap().subject, "CN=ada");
    }
}

#[tokio::test]
async fn certificates_are_required_or_not_and_verified_in_any_case() {
    let stranger = Certs::new();
    stranger.issue("ada", &[], |_| {});
    for (auth, none, own) in [
        (ClientAuth::None, true, true),
        (ClientAuth::Optional, true, true),
        (ClientAuth::Required, false, true),
    ] {
        let (certs, mut options, client) = mutual(auth);
        if auth == ClientAuth::None {
            options.tls.client_ca = None;
        }
        let (mut listener, address) = listen("wss://127.0.0.1:0", &options).await;
        let (_, server) = meet(&mut listener, &address, certs.client_tls()).await;
        assert_eq!(server.is_ok(), none, "{auth:?} without");
        if let Err(error) = server {
            assert!(
                error.to_string().contains("shows no certificate"),
                "{error}"
            );
        }
        let (_, server) = meet(&mut listener, &address, client.clone()).await;
        assert_eq!(server.is_ok(), own, "{auth:?} with");
        let foreign = TlsClientOptions {
            certificate: Some(stranger.path("ada.pem")),
            key: Some(stranger.path("ada.key")),
            ..certs.client_tls()
        };
        let (_, server) = meet(&mut listener, &address, foreign).await;
        assert_eq!(server.is_ok(), auth == ClientAuth::None, "{auth:?} foreign");
    }
}

#[tokio::test]
async fn revoked_and_unclear_certificates_are_refused() {
    let (certs, mut options, client) = mutual(ClientAuth::Required);
    options.tls.client_crl = Some(certs.path("crl.pem"));
    for (revoked, until, accepted) in [
        (&["other"][..], 2090, true),
        (&["ada"][..], 2090, false),
        // A list that is out of date says nothing about today.
        (&[][..], 2025, false),
    ] {
        certs.revoke(revoked, until);
        let (mut listener, address) = listen("tls://127.0.0.1:0", &options).await;
        let (_, server) = meet(&mut listener, &address, client.clone()).await;
        assert_eq!(server.is_ok(), accepted, "{revoked:?} until {until}");
    }
}

#[tokio::test]
async fn new_files_serve_new_connections_and_old_ones_go_on() {
    let (certs, options, client) = mutual(ClientAuth::Required);
    let (mut listener, address) = listen("tls://127.0.0.1:0", &options).await;
    let files = listener.certificates().unwrap();
    assert!(files.reload_if_changed().is_none());
    let (before, before_server) = meet(&mut listener, &address, client.clone()).await;
    let (mut before, mut before_server) = (before.unwrap(), before_server.unwrap());

    // Broken: told once, and nothing changes.
    let good = std::fs::read(certs.path("server.pem")).unwrap();
    replace(&certs.path("server.pem"), b"broken");
    let error = files.reload_if_changed().unwrap().expect_err("broken");
    assert_eq!(error.path(), Some(certs.path("server.pem").as_path()));
    assert!(files.reload_if_changed().is_none());
    assert!(files.reload().is_err());
    let (after, _) = meet(&mut listener, &address, client.clone()).await;
    after.unwrap();

    // Whole again, and another one.
    replace(&certs.path("server.pem"), &good);
    files.reload_if_changed().unwrap().unwrap();
    certs.issue("server", &["elsewhere.example"], |params| {
        params.not_after = date_time_ymd(2090, 1, 2);
    });
    files.reload_if_changed().unwrap().unwrap();
    assert!(files.not_after() > SystemTime::now() && files.days_left() > 20_000);
    let (after, _) = meet(&mut listener, &address, client.clone()).await;
    let error = after.expect_err("made for another name").to_string();
    assert!(error.contains("not valid for name"), "{error}");
    let lenient = TlsClientOptions {
        insecure: true,
        ..client.clone()
    };
    let (after, _) = meet(&mut listener, &address, lenient).await;
    after.expect("only the name is not looked at");
    let stranger = Certs::new();
    let mistaken = TlsClientOptions {
        ca: Some(stranger.path("ca.pem")),
        insecure: true,
        ..client
    };
    let (after, _) = meet(&mut listener, &address, mistaken).await;
    after.expect_err("another authority");

    before.write_all(b"still").await.unwrap();
    before.flush().await.unwrap();
    let mut read = [0; 5];
    before_server.stream.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"still");
}

/// A client that keeps its tickets from one connection to the next.
struct Resuming(tokio_rustls::TlsConnector);

impl Resuming {
    fn new(certs: &Certs) -> Self {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(certs.path("ca.pem")).unwrap();
        roots.add(ca).unwrap();
        let own = CertificateDer::from_pem_file(certs.path("ada.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(certs.path("ada.key")).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![own], key)
            .unwrap();
        Self(tokio_rustls::TlsConnector::from(Arc::new(config)))
    }

    /// Whether the handshake resumed a session, and what the server knows of the client then.
    async fn connect(&self, listener: &mut Listener) -> (bool, Option<String>) {
        let stream = TcpStream::connect(listener.local_addr()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let (client, server) = tokio::join!(
            async {
                let mut client = self.0.connect(name, stream).await.unwrap();
                // Tickets come after the handshake.
                client.read_exact(&mut [0; 2]).await.unwrap();
                client
            },
            async {
                let mut server = listener.accept().await.unwrap().establish().await.unwrap();
                server.stream.write_all(b"hi").await.unwrap();
                server.stream.flush().await.unwrap();
                server
            }
        );
        drop(client);
        (server.stream.tls().unwrap().is_resumed(), server.identity)
    }
}

#[tokio::test]
async fn sessions_are_resumed_until_other_clients_are_trusted() {
    let (certs, mut options, _) = mutual(ClientAuth::Required);
    options.identity = Some(IdentitySource::CommonName);
    certs.revoke(&["nobody"], 2090);
    options.tls.client_crl = Some(certs.path("crl.pem"));
    let (mut listener, _) = listen("tls://127.0.0.1:0", &options).await;
    let client = Resuming::new(&certs);
    let ada = Some("ada".to_owned());
    assert_eq!(client.connect(&mut listener).await, (false, ada.clone()));
    assert_eq!(client.connect(&mut listener).await, (true, ada.clone()));
    // A new certificate of our own ends no session.
    certs.issue("server", &["localhost"], |_| {});
    let files = listener.certificates().unwrap();
    files.reload().unwrap();
    assert_eq!(client.connect(&mut listener).await, (true, ada.clone()));
    // A new list of revoked ones does.
    certs.revoke(&["somebody"], 2090);
    files.reload().unwrap();
    assert_eq!(client.connect(&mut listener).await, (false, ada.clone()));

    options.tls.session_tickets = false;
    let (mut listener, _) = listen("tls://127.0.0.1:0", &options).await;
    let client = Resuming::new(&certs);
    assert_eq!(client.connect(&mut listener).await, (false, ada.clone()));
    assert_eq!(client.connect(&mut listener).await, (false, ada));
}

#[tokio::test]
async fn whoever_speaks_something_else_is_told_so() {
    let certs = Certs::new();
    let (mut listener, _) = listen("tls://127.0.0.1:0", &certs.listener_options()).await;
    for garbage in [
        &b"\x10\x0C\0\x04MQTT\x04\x02\0\x3C\0\0"[..],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &[0xFF; 40],
        b"\x16\x03\x01\x40\x01",
    ] {
        let mut client = TcpStream::connect(listener.local_addr()).await.unwrap();
        client.write_all(garbage).await.unwrap();
        client.shutdown().await.unwrap();
        let server = listener.accept().await.unwrap().establish().await;
        let error = server.expect_err("no TLS").to_string();
        assert!(error.starts_with("TLS handshake: "), "{error}");
        let mut alert = Vec::new();
        client.read_to_end(&mut alert).await.unwrap();
        if garbage[0] == 0x10 {
            assert!(error.contains("does not speak TLS"), "{error}");
            assert_eq!(alert.first(), Some(&21), "an alert");
        }
    }
}
