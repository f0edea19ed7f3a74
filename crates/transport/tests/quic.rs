//! QUIC: what is particular about it. What it shares with the others is in the common suite.
#![cfg(feature = "quic")]

mod common;

use common::certs::Certs;
use common::listen;
use martlet_transport::{
    ClientAuth, ConnectOptions, Established, IdentitySource, Listener, Stream, TlsClientOptions,
    TlsOptions, connect,
};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A connection over which one byte has gone each way.
async fn meet(listener: &mut Listener, url: &str, tls: TlsClientOptions) -> (Stream, Established) {
    let options = ConnectOptions {
        tls,
        ..ConnectOptions::default()
    };
    let address = url.parse().unwrap();
    let client = async {
        let mut client = connect(&address, &options).await.unwrap();
        client.write_all(b"?").await.unwrap();
        client.read_exact(&mut [0; 1]).await.unwrap();
        client
    };
    let server = async {
        let mut server = listener.accept().await.unwrap().establish().await.unwrap();
        server.stream.read_exact(&mut [0; 1]).await.unwrap();
        server.stream.write_all(b"!").await.unwrap();
        server
    };
    tokio::join!(client, server)
}

#[tokio::test]
async fn a_client_that_moves_goes_on() {
    let certs = Certs::new();
    let (mut listener, address) = listen("quic://127.0.0.1:0", &certs.listener_options()).await;
    let (mut client, mut server) =
        meet(&mut listener, &address.to_string(), certs.client_tls()).await;
    let (Stream::Quic(quic), Stream::Quic(seen)) = (&client, &server.stream) else {
        panic!("not QUIC");
    };
    let before = seen.connection().remote_address();
    let local = "127.0.0.1:0".parse().unwrap();
    quic.handle().rebind(local).unwrap();
    seen.handle().rebind(local).expect_err("a server stays");
    client.write_all(b"moved").await.unwrap();
    let mut read = [0; 5];
    server.stream.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"moved");
    server.stream.write_all(b"found").await.unwrap();
    client.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"found");
    let Stream::Quic(seen) = &server.stream else {
        panic!("not QUIC");
    };
    assert_ne!(seen.connection().remote_address(), before);
}

#[tokio::test]
async fn a_client_that_is_gone_without_a_word_is_noticed() {
    let certs = Certs::new();
    let mut options = certs.listener_options();
    options.keepalive_secs = Some(1);
    let (mut listener, address) = listen("quic://127.0.0.1:0", &options).await;
    let tls = certs.connect_options();
    // With its runtime goes whatever could send a farewell.
    let client = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let stream = runtime.block_on(async {
            let mut stream = connect(&address, &tls).await.unwrap();
            stream.write_all(b"?").await.unwrap();
            stream.read_exact(&mut [0; 1]).await.unwrap();
            stream
        });
        drop(runtime);
        std::mem::forget(stream);
    });
    let mut server = listener.accept().await.unwrap().establish().await.unwrap();
    server.stream.read_exact(&mut [0; 1]).await.unwrap();
    server.stream.write_all(b"!").await.unwrap();
    let mut buf = [0; 1];
    let read = server.stream.read_exact(&mut buf);
    let gone = tokio::time::timeout(Duration::from_mins(1), read).await;
    assert!(matches!(gone, Ok(Err(_))), "{gone:?}");
    client.join().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_quiet_is_kept() {
    let certs = Certs::new();
    let mut options = certs.listener_options();
    for keepalive_secs in [None, Some(10)] {
        options.keepalive_secs = keepalive_secs;
        let (mut listener, address) = listen("quic://127.0.0.1:0", &options).await;
        let (mut client, mut server) =
            meet(&mut listener, &address.to_string(), certs.client_tls()).await;
        tokio::time::sleep(Duration::from_mins(20)).await;
        client.write_all(b"?").await.unwrap();
        server.stream.read_exact(&mut [0; 1]).await.unwrap();
    }
}

#[tokio::test]
async fn further_streams_come_when_they_are_asked_for() {
    let certs = Certs::new();
    let (mut listener, address) = listen("quic://127.0.0.1:0", &certs.listener_options()).await;
    let (client, server) = meet(&mut listener, &address.to_string(), certs.client_tls()).await;
    let Stream::Quic(quic) = &client else {
        panic!("not QUIC");
    };
    let handle = quic.handle();
    let early = tokio::time::timeout(Duration::from_millis(50), handle.open()).await;
    early.expect_err("before the server allows any");
    assert!(server.stream.further(0).is_none(), "nobody wants them");
    let mut further = server.stream.further(2).expect("QUIC has them");
    let mut one = handle.open().await.unwrap();
    let mut two = handle.open().await.unwrap();
    let third = tokio::time::timeout(Duration::from_millis(50), handle.open()).await;
    third.expect_err("a third");
    let mut read = [0; 3];
    for (stream, text) in [(&mut two, b"two"), (&mut one, b"one")] {
        stream.write_all(text).await.unwrap();
    }
    // They come in the order of their numbers, whichever was used first.
    let mut next = async || std::future::poll_fn(|cx| further.poll_next(cx)).await;
    let mut first = next().await.expect("a stream");
    first.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"one");
    let mut second = next().await.expect("a stream");
    second.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"two");
    // The end of one is not the end of the other, nor of the connection.
    drop(second);
    assert_eq!(two.read(&mut read).await.unwrap(), 0);
    first.write_all(b"yes").await.unwrap();
    one.read_exact(&mut read).await.unwrap();
    drop((client, one, two));
    assert!(next().await.is_none(), "the connection is gone");
}

#[tokio::test]
async fn a_closed_listener_keeps_its_connections_and_takes_no_others() {
    let certs = Certs::new();
    let (mut listener, address) = listen("quic://127.0.0.1:0", &certs.listener_options()).await;
    let (mut client, mut server) =
        meet(&mut listener, &address.to_string(), certs.client_tls()).await;
    drop(listener);
    client.write_all(b"still").await.unwrap();
    let mut read = [0; 5];
    server.stream.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"still");
    // Its packets are dropped; without an end of its own it would try for ever.
    let options = certs.connect_options();
    let attempt = connect(&address, &options);
    let attempt = tokio::time::timeout(Duration::from_millis(300), attempt).await;
    assert!(!matches!(attempt, Ok(Ok(_))), "nobody listens");
}

#[tokio::test]
async fn certificates_are_checked_on_both_sides() {
    let certs = Certs::new();
    certs.issue("ada", &[], |_| {});
    let mut options = certs.listener_options();
    options.identity = Some(IdentitySource::CommonName);
    options.tls = TlsOptions {
        client_auth: ClientAuth::Required,
        client_ca: Some(certs.path("ca.pem")),
        ..options.tls
    };
    let (mut listener, address) = listen("quic://127.0.0.1:0", &options).await;
    let own = TlsClientOptions {
        certificate: Some(certs.path("ada.pem")),
        key: Some(certs.path("ada.key")),
        ..certs.client_tls()
    };
    let (_client, server) = meet(&mut listener, &address.to_string(), own).await;
    assert_eq!(server.identity.as_deref(), Some("ada"));
    assert!(server.certificate.is_some());

    let nobody = certs.connect_options();
    let (client, server) = tokio::join!(
        async {
            // The refusal comes behind the handshake.
            let mut client = connect(&address, &nobody).await?;
            client.write_all(b"?").await?;
            client.read_exact(&mut [0; 1]).await
        },
        async { listener.accept().await.unwrap().establish().await }
    );
    client.expect_err("no certificate");
    let error = server.expect_err("no certificate").to_string();
    assert!(error.starts_with("QUIC: "), "{error}");

    let strangers = Certs::new();
    let stranger = strangers.connect_options();
    let (client, server) = tokio::join!(connect(&address, &stranger), async {
        listener.accept().await.unwrap().establish().await
    });
    client.expect_err("another authority");
    server.expect_err("refused by the client");
}

#[tokio::test]
async fn other_protocols_are_not_agreed_to() {
    let certs = Certs::new();
    let (mut listener, address) = listen("quic://127.0.0.1:0", &certs.listener_options()).await;
    let mut options = certs.connect_options();
    options.tls.alpn = vec!["h3".into()];
    let (client, server) = tokio::join!(connect(&address, &options), async {
        listener.accept().await.unwrap().establish().await
    });
    client.expect_err("another protocol");
    server.expect_err("another protocol");
}

#[tokio::test]
async fn new_certificates_serve_new_connections() {
    let certs = Certs::new();
    let (mut listener, address) = listen("quic://127.0.0.1:0", &certs.listener_options()).await;
    let url = address.to_string();
    meet(&mut listener, &url, certs.client_tls()).await;
    certs.issue("server", &["elsewhere.example"], |_| {});
    listener.certificates().unwrap().reload().unwrap();
    let options = certs.connect_options();
    let (client, server) = tokio::join!(connect(&address, &options), async {
        listener.accept().await.unwrap().establish().await
    });
    client.expect_err("made for another name");
    server.expect_err("refused by the client");
    let lenient = TlsClientOptions {
        insecure: true,
        ..certs.client_tls()
    };
    meet(&mut listener, &url, lenient).await;
}

#[tokio::test]
async fn garbage_is_not_even_a_connection() {
    let certs = Certs::new();
    let (mut listener, address) = listen("quic://127.0.0.1:0", &certs.listener_options()).await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr();
    for len in [0, 1, 20, 1200, 1472] {
        for first in [0x00, 0x40, 0xC0, 0xFF] {
            let mut datagram = vec![0x5A; len];
            if let Some(byte) = datagram.first_mut() {
                *byte = first;
            }
            socket.send_to(&datagram, to).await.unwrap();
        }
    }
    meet(&mut listener, &address.to_string(), certs.client_tls()).await;
}
