//! Listening sockets: options, names, and errors that help.

mod common;

use common::listen;
use martlet_transport::{
    BindError, ConnectOptions, HostPort, ListenAddress, Listener, ListenerOptions, Stream, connect,
    is_fd_exhaustion, is_peer_gone,
};
use std::io::{Error, ErrorKind};

#[tokio::test]
async fn socket_options_reach_accepted_connections() {
    for (nodelay, keepalive_secs) in [(true, None), (false, Some(77))] {
        let options = ListenerOptions {
            nodelay,
            keepalive_secs,
            ..ListenerOptions::default()
        };
        let (mut listener, address) = listen("tcp://127.0.0.1:0", &options).await;
        let options = ConnectOptions {
            nodelay,
            keepalive_secs,
            ..ConnectOptions::default()
        };
        let client = connect(&address, &options).await.unwrap();
        let accepted = listener.accept().await.unwrap();
        assert_eq!(
            accepted.peer.socket_addr(),
            client.tcp().unwrap().local_addr().ok()
        );
        let server = accepted.establish().await.unwrap().stream;
        assert!(matches!(server, Stream::Tcp(_)));
        for stream in [&client, &server] {
            assert_eq!(stream.tcp().unwrap().nodelay().unwrap(), nodelay);
            let socket = socket2::SockRef::from(stream.tcp().unwrap());
            assert_eq!(socket.keepalive().unwrap(), keepalive_secs.is_some());
        }
    }
}

#[tokio::test]
async fn names_and_ipv6_work() {
    for url in ["tcp://localhost:0", "tcp://[::1]:0", "ws://[::1]:0/mqtt"] {
        let address: ListenAddress = url.parse().unwrap();
        let listener = match Listener::bind(&address, &ListenerOptions::default()).await {
            // Machines without IPv6 exist.
            Err(error) if url.contains("::1") => {
                assert_eq!(
                    error.io().unwrap().kind(),
                    ErrorKind::AddrNotAvailable,
                    "{error}"
                );
                continue;
            }
            listener => listener.unwrap(),
        };
        assert!(listener.local_addr().ip().is_loopback(), "{url}");
        assert_ne!(listener.local_addr().port(), 0, "{url}");
    }
}

#[tokio::test]
async fn a_port_is_taken_once_unless_shared() {
    let options = ListenerOptions::default();
    let (first, _) = listen("tcp://127.0.0.1:0", &options).await;
    let again = ListenAddress::from(first.local_addr());
    let error = Listener::bind(&again, &options).await.expect_err("taken");
    assert_eq!(error.io().unwrap().kind(), ErrorKind::AddrInUse);
    let words = error.to_string();
    assert!(words.contains(&again.to_string()), "{words}");
    assert!(words.contains("another program"), "{words}");

    let shared = ListenerOptions {
        reuse_port: true,
        ..ListenerOptions::default()
    };
    let (first, _) = listen("tcp://127.0.0.1:0", &shared).await;
    let again = ListenAddress::from(first.local_addr());
    if cfg!(unix) {
        Listener::bind(&again, &shared).await.unwrap();
    }
}

#[tokio::test]
async fn unknown_names_and_foreign_addresses_are_refused() {
    // Too long for a name: nobody is asked for it.
    let host = "x".repeat(300);
    let unknown = ListenAddress::Tcp(HostPort {
        host: host.clone(),
        port: 0,
    });
    let options = ListenerOptions::default();
    let error = Listener::bind(&unknown, &options).await.expect_err("name");
    assert!(matches!(error, BindError::Resolve { .. }), "{error:?}");
    assert!(error.to_string().contains(&host), "{error}");

    // TEST-NET-1, no machine's address.
    let foreign = "tcp://192.0.2.1:0".parse().unwrap();
    let error = Listener::bind(&foreign, &options)
        .await
        .expect_err("foreign");
    assert!(error.to_string().contains("no interface"), "{error}");
}

#[test]
fn accept_errors_are_told_apart() {
    if cfg!(unix) {
        for code in [23, 24] {
            assert!(is_fd_exhaustion(&Error::from_raw_os_error(code)));
            assert!(!is_peer_gone(&Error::from_raw_os_error(code)));
        }
    }
    let aborted = Error::from(ErrorKind::ConnectionAborted);
    assert!(is_peer_gone(&aborted) && !is_fd_exhaustion(&aborted));
    let other = Error::from(ErrorKind::OutOfMemory);
    assert!(!is_peer_gone(&other) && !is_fd_exhaustion(&other));
}
