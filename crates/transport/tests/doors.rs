//! What comes before the first byte of a connection: Unix sockets and their files, PROXY headers, the origin of web
//! pages, and the details of TCP.

mod common;

use common::certs::Certs;
use common::listen;
use martlet_transport::{
    ConnectOptions, EstablishError, Established, IdentitySource, Listener, ListenerOptions,
    Network, Peer, ProxyError, TlsClientOptions, connect,
};
use std::io::ErrorKind;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn networks(list: &[&str]) -> Vec<Network> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

#[cfg(unix)]
mod unix {
    use super::*;
    use martlet_transport::{BindError, ListenAddress, UnixOptions};
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

    fn address(directory: &tempfile::TempDir) -> ListenAddress {
        ListenAddress::Unix(directory.path().join("socket"))
    }

    #[tokio::test]
    async fn the_file_has_its_mode_and_goes_with_the_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let options = ListenerOptions {
            unix: UnixOptions {
                mode: 0o606,
                owner: Some(fs::metadata(directory.path()).unwrap().uid().to_string()),
                ..UnixOptions::default()
            },
            ..ListenerOptions::default()
        };
        let listener = Listener::bind(&address(&directory), &options)
            .await
            .unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o606);
        assert!(listener.is_local());
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_file_makes_way_and_a_live_one_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        // What a process leaves that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let options = ListenerOptions::default();
        let first = Listener::bind(&address(&directory), &options)
            .await
            .unwrap();
        let error = Listener::bind(&address(&directory), &options)
            .await
            .expect_err("in use");
        assert_eq!(error.io().unwrap().kind(), ErrorKind::AddrInUse);
        // The one in use is not harmed, and a closed listener takes no file that is not its own.
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        drop(first);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let error = Listener::bind(&address(&directory), &options)
            .await
            .expect_err("no socket");
        assert!(matches!(error, BindError::Bind { .. }));
        assert!(error.to_string().contains("no socket"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn unknown_owners_are_named() {
        let directory = tempfile::tempdir().unwrap();
        for options in [
            UnixOptions {
                owner: Some("nobody such".into()),
                ..UnixOptions::default()
            },
            UnixOptions {
                group: Some("nobody such".into()),
                ..UnixOptions::default()
            },
        ] {
            let options = ListenerOptions {
                unix: options,
                ..ListenerOptions::default()
            };
            let error = Listener::bind(&address(&directory), &options).await;
            let error = error.expect_err("unknown").to_string();
            assert!(error.contains("`nobody such` is not in /etc/"), "{error}");
            assert!(!directory.path().join("socket").exists());
        }
    }

    #[tokio::test]
    async fn the_other_end_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let options = ListenerOptions {
            identity: Some(IdentitySource::UnixUser),
            ..ListenerOptions::default()
        };
        let mut listener = Listener::bind(&address(&directory), &options)
            .await
            .unwrap();
        let url = address(&directory).to_string().parse().unwrap();
        let _client = connect(&url, &ConnectOptions::default()).await.unwrap();
        let accepted = listener.accept().await.unwrap();
        let own = fs::metadata(directory.path()).unwrap().uid();
        let Peer::Unix { uid, pid } = accepted.peer else {
            panic!("{:?}", accepted.peer);
        };
        assert_eq!(uid, Some(own));
        if cfg!(target_os = "linux") {
            assert_eq!(pid, i32::try_from(std::process::id()).ok());
        }
        let identity = accepted.establish().await.unwrap().identity.unwrap();
        if own == 0 {
            assert_eq!(identity, "root");
        }
        assert!(!identity.is_empty());
    }
}

fn for_proxies(trusted: &[&str]) -> ListenerOptions {
    ListenerOptions {
        proxy_protocol: true,
        trusted_proxies: networks(trusted),
        ..ListenerOptions::default()
    }
}

async fn send(
    url: &str,
    options: &ListenerOptions,
    bytes: &[u8],
) -> Result<Established, EstablishError> {
    let (mut listener, _) = listen(url, options).await;
    let mut client = TcpStream::connect(listener.local_addr()).await.unwrap();
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    listener.accept().await.unwrap().establish().await
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 1883\r\nhello";

#[tokio::test]
async fn a_header_tells_who_connects_and_takes_nothing_of_what_follows() {
    let options = for_proxies(&["127.0.0.0/8"]);
    let mut established = send("tcp://127.0.0.1:0", &options, V1).await.unwrap();
    let proxied: SocketAddr = "192.0.2.1:4711".parse().unwrap();
    assert_eq!(established.proxied, Some(Peer::Socket(proxied)));
    let mut rest = String::new();
    established.stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "hello");
}

#[tokio::test]
async fn version_2_carries_the_name_in_the_certificate() {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x1A".to_vec();
    header.extend([192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x67, 0x07, 0x5B]);
    header.extend(b"\x20\0\x0B\x07\0\0\0\0\x22\0\x03ada");
    for (source, expected) in [
        (Some(IdentitySource::CommonName), Some("ada")),
        (Some(IdentitySource::Subject), None),
        (None, None),
    ] {
        let mut options = for_proxies(&["127.0.0.1"]);
        options.identity = source;
        let established = send("tcp://127.0.0.1:0", &options, &header).await.unwrap();
        assert_eq!(established.identity.as_deref(), expected, "{source:?}");
    }
}

#[tokio::test]
async fn headers_are_required_from_proxies_and_refused_from_others() {
    let check = |options: ListenerOptions, bytes: &'static [u8], expected: ProxyError| async move {
        let error = send("tcp://127.0.0.1:0", &options, bytes).await;
        match error.expect_err("refused") {
            EstablishError::Proxy(error) => assert_eq!(error, expected),
            other => panic!("{other}"),
        }
    };
    let trusted = for_proxies(&["127.0.0.1"]);
    check(for_proxies(&["10.0.0.0/8"]), V1, ProxyError::Untrusted).await;
    check(trusted.clone(), b"\x10\x0C\0\x04MQTT", ProxyError::Missing).await;
    check(trusted.clone(), b"PROXY TCP4", ProxyError::Closed).await;
    check(trusted, b"", ProxyError::Closed).await;
    // Elsewhere it is what the client says, and no MQTT.
    let mut established = send("tcp://127.0.0.1:0", &ListenerOptions::default(), V1)
        .await
        .unwrap();
    let mut all = Vec::new();
    established.stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, V1);
}

#[tokio::test]
async fn tls_and_web_socket_come_behind_the_header() {
    let certs = Certs::new();
    let mut options = certs.listener_options();
    options.proxy_protocol = true;
    options.trusted_proxies = networks(&["127.0.0.1"]);
    let (mut listener, _) = listen("tls://127.0.0.1:0", &options).await;
    // A client that knows nothing of the proxy, and a proxy that passes bytes on.
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tls://{}", proxy.local_addr().unwrap());
    let behind = listener.local_addr();
    let relay = tokio::spawn(async move {
        let (mut client, peer) = proxy.accept().await.unwrap();
        let mut server = TcpStream::connect(behind).await.unwrap();
        let header = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} 1\r\n", peer.port());
        server.write_all(header.as_bytes()).await.unwrap();
        // Ends with the connections.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    });
    let options = ConnectOptions {
        tls: TlsClientOptions {
            ..certs.client_tls()
        },
        ..ConnectOptions::default()
    };
    let address = url.parse().unwrap();
    let (client, server) = tokio::join!(connect(&address, &options), async {
        listener.accept().await.unwrap().establish().await
    });
    let client = client.unwrap();
    let own = client.tcp().unwrap().local_addr().unwrap();
    assert_eq!(server.unwrap().proxied, Some(Peer::Socket(own)));
    drop(client);
    relay.await.unwrap();
}

fn upgrade(lines: &str) -> Vec<u8> {
    format!(
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
    )
    .into_bytes()
}

#[tokio::test]
async fn only_trusted_proxies_may_say_for_whom_they_ask() {
    let request = upgrade("X-Forwarded-For: 6.6.6.6, 192.0.2.9\r\n");
    for (trusted, expected) in [(&["127.0.0.1"][..], Some("192.0.2.9:0")), (&[][..], None)] {
        let options = ListenerOptions {
            trusted_proxies: networks(trusted),
            ..ListenerOptions::default()
        };
        let established = send("ws://127.0.0.1:0", &options, &request).await.unwrap();
        let proxied = established.proxied.map(|peer| peer.to_string());
        assert_eq!(proxied.as_deref(), expected, "{trusted:?}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_kept_out() {
    let mut options = ListenerOptions::default();
    options.ws.origins = vec!["https://example.org".into(), "http://localhost:3000".into()];
    for (lines, accepted) in [
        ("", true),
        ("Origin: https://example.org\r\n", true),
        ("Origin: HTTPS://EXAMPLE.ORG\r\n", true),
        ("Origin: http://localhost:3000\r\n", true),
        ("Origin: http://localhost\r\n", false),
        ("Origin: https://example.org.evil.example\r\n", false),
        ("Origin: null\r\n", false),
        (
            "Origin: https://example.org\r\nOrigin: https://evil.example\r\n",
            false,
        ),
    ] {
        let result = send("ws://127.0.0.1:0", &options, &upgrade(lines)).await;
        assert_eq!(result.is_ok(), accepted, "{lines}");
        if let Err(error) = result {
            assert!(error.to_string().contains("403"), "{error}");
        }
    }
}

#[tokio::test]
async fn both_families_come_in_unless_told_otherwise() {
    for (dual_stack, v4) in [(true, true), (false, false)] {
        let options = ListenerOptions {
            dual_stack,
            ..ListenerOptions::default()
        };
        let address = "tcp://[::]:0".parse().unwrap();
        let Ok(listener) = Listener::bind(&address, &options).await else {
            // Machines without IPv6 exist.
            return;
        };
        let port = listener.local_addr().port();
        let connected = TcpStream::connect(("127.0.0.1", port)).await;
        assert_eq!(connected.is_ok(), v4, "dual_stack {dual_stack}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn silent_peers_are_noticed_as_asked_for() {
    let options = ListenerOptions {
        keepalive_secs: Some(60),
        user_timeout_secs: Some(7),
        ..ListenerOptions::default()
    };
    let (mut listener, address) = listen("tcp://127.0.0.1:0", &options).await;
    let _client = connect(&address, &ConnectOptions::default()).await.unwrap();
    let server = listener.accept().await.unwrap().establish().await.unwrap();
    let socket = socket2::SockRef::from(server.stream.tcp().unwrap());
    let secs = |duration: std::time::Duration| duration.as_secs();
    assert_eq!(socket.tcp_keepalive_time().map(secs).unwrap(), 60);
    assert_eq!(socket.tcp_keepalive_interval().map(secs).unwrap(), 20);
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    assert_eq!(socket.tcp_user_timeout().unwrap().map(secs), Some(7));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_interface_can_be_chosen_by_name() {
    let bind = async |name: &str| {
        let options = ListenerOptions {
            interface: Some(name.into()),
            ..ListenerOptions::default()
        };
        let address = "tcp://127.0.0.1:0".parse().unwrap();
        Listener::bind(&address, &options).await
    };
    let error = bind("nosuch0").await.expect_err("unknown").to_string();
    assert!(error.contains("interface `nosuch0`"), "{error}");
    if let Ok(mut listener) = bind("lo").await {
        let _client = TcpStream::connect(listener.local_addr()).await.unwrap();
        listener.accept().await.unwrap();
    }
}
