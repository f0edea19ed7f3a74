//! The HTTP part of WebSocket.

mod common;

use common::listen;
use martlet_transport::{
    EstablishError, ListenerOptions, UpgradeError, WsClientOptions, WsOptions, connect, ws_accept,
    ws_connect,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// The request of RFC 6455, 1.3, with `lines` added.
fn request(lines: &str) -> String {
    format!(
        "GET /mqtt HTTP/1.1\r\nHost: example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
    )
}

/// The answer to `request`, and the error that the server reports, if any.
async fn ask(request: &str, options: &WsOptions) -> (String, Option<UpgradeError>) {
    let (mut near, far) = duplex(1 << 16);
    near.write_all(request.as_bytes()).await.unwrap();
    near.shutdown().await.unwrap();
    let error = ws_accept(far, options).await.err();
    let mut answer = String::new();
    near.read_to_string(&mut answer).await.unwrap();
    (answer, error)
}

#[tokio::test]
async fn requests_that_are_accepted() {
    let mqtt = "Sec-WebSocket-Protocol: mqtt\r\n";
    let cases = [
        // request | chosen subprotocol
        (request(""), None),
        (request(mqtt), Some("mqtt")),
        (
            request("Sec-WebSocket-Protocol: mqttv3.1\r\n"),
            Some("mqttv3.1"),
        ),
        (
            request("Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n"),
            Some("mqtt"),
        ),
        (
            request("Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: mqttv3.1\r\n"),
            Some("mqttv3.1"),
        ),
        (
            request(mqtt).replace("Upgrade: websocket", "upgrade: WebSocket"),
            Some("mqtt"),
        ),
        (
            request(mqtt).replace("Connection: Upgrade", "Connection: keep-alive, Upgrade"),
            Some("mqtt"),
        ),
        (request("").replace("/mqtt", "/mqtt?token=1"), None),
        (request("Content-Length: 0\r\n"), None),
        (request(&format!("Cookie: {}\r\n", "c".repeat(7000))), None),
    ];
    let options = WsOptions {
        path: Some("/mqtt".into()),
        ..WsOptions::default()
    };
    for (request, subprotocol) in cases {
        let (answer, error) = ask(&request, &options).await;
        assert!(error.is_none(), "{request}{error:?}");
        assert!(answer.starts_with("HTTP/1.1 101 "), "{request}{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        assert!(
            answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
            "{answer}"
        );
        let chosen = answer
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
        assert_eq!(chosen, subprotocol, "{request}");
    }
}

#[tokio::test]
async fn requests_that_are_refused_are_told_why() {
    let headers = |n| "X: y\r\n".repeat(n);
    let cases = [
        // request | status | in the body
        (request("").replace("GET", "POST"), 405, "method GET"),
        (request("").replace("HTTP/1.1", "HTTP/1.0"), 505, "HTTP/1.1"),
        (request("").replace("HTTP/1.1", "HTTP/2"), 505, "HTTP/1.1"),
        (request("").replace("/mqtt", "/other"), 404, "/mqtt only"),
        (request("").replace("/mqtt", "/mqtt/"), 404, "/mqtt only"),
        (
            "GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n".into(),
            426,
            "WebSocket client",
        ),
        (
            request("").replace("Connection: Upgrade\r\n", ""),
            400,
            "Connection: Upgrade",
        ),
        (
            request("").replace("Version: 13", "Version: 8"),
            426,
            "version 13",
        ),
        (
            request("").replace("Sec-WebSocket-Key", "X-Key"),
            400,
            "Sec-WebSocket-Key",
        ),
        (
            request("").replace("dGhl", "d$hl"),
            400,
            "Sec-WebSocket-Key",
        ),
        (
            request("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
            400,
            "there once",
        ),
        (
            request("Sec-WebSocket-Protocol: chat\r\n"),
            400,
            "mqtt or mqttv3.1",
        ),
        (
            request("Sec-WebSocket-Protocol: MQTT\r\n"),
            400,
            "mqtt or mqttv3.1",
        ),
        (request("Content-Length: 5\r\n"), 400, "no body"),
        (request("Transfer-Encoding: chunked\r\n"), 400, "no body"),
        (request("No colon\r\n"), 400, "not an HTTP request"),
        (request(&headers(100)), 431, "64 header lines"),
        (
            request(&format!("Cookie: {}\r\n", "c".repeat(9000))),
            431,
            "8192 bytes",
        ),
        // What an MQTT client says on the wrong port.
        (
            "\x10\x0C\0\x04MQTT\x04\x02\0\x3C\0\0".into(),
            400,
            "speaks WebSocket",
        ),
    ];
    let options = WsOptions {
        path: Some("/mqtt".into()),
        ..WsOptions::default()
    };
    for (request, status, hint) in cases {
        let (answer, error) = ask(&request, &options).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}{answer}"
        );
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        assert!(body.contains(hint), "{request}{body}");
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())),
            "{answer}"
        );
        match error {
            Some(UpgradeError::Refused {
                status: reported,
                reason,
            }) => {
                assert_eq!(reported, status);
                assert_eq!(reason, body.trim_end());
            }
            other => panic!("{request}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_subprotocol_can_be_demanded() {
    let options = WsOptions {
        require_subprotocol: true,
        ..WsOptions::default()
    };
    let (answer, _) = ask(&request(""), &options).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let (answer, _) = ask(&request("Sec-WebSocket-Protocol: mqtt\r\n"), &options).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
}

#[tokio::test]
async fn a_peer_that_leaves_is_no_refusal() {
    for part in ["", "GET", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let (answer, error) = ask(part, &WsOptions::default()).await;
        assert_eq!(answer, "");
        assert!(matches!(error, Some(UpgradeError::Closed)), "{error:?}");
    }
}

#[tokio::test]
async fn frames_that_follow_the_request_at_once_are_not_lost() {
    let (mut near, far) = duplex(1 << 16);
    let mut input = request("").into_bytes();
    input.extend_from_slice(b"\x82\x83\0\0\0\0abc\x82\x83\0\0\0\0def");
    near.write_all(&input).await.unwrap();
    let mut stream = ws_accept(far, &WsOptions::default()).await.unwrap();
    let mut payload = [0; 6];
    stream.read_exact(&mut payload[..1]).await.unwrap();
    stream.read_exact(&mut payload[1..]).await.unwrap();
    assert_eq!(&payload, b"abcdef");
}

#[tokio::test]
async fn the_client_tells_what_the_server_answered() {
    let long = format!("HTTP/1.1 101 x\r\nX: {}\r\n\r\n", "y".repeat(9000));
    for (answer, hint) in [
        ("", "closed without an answer"),
        ("\x20\x02\0\0", "does not answer in HTTP"),
        (
            "HTTP/1.1 404 Not Found\r\n\r\nno such path\n",
            "404 Not Found: no such path",
        ),
        (
            "HTTP/1.1 502 Bad Gateway\r\n\r\n<html>",
            "HTTP 502 Bad Gateway",
        ),
        ("HTTP/1.1 101 OK\r\n\r\n", "not to WebSocket"),
        (
            "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            "does not fit our key",
        ),
        (&long, "too long"),
    ] {
        let (near, mut far) = duplex(1 << 16);
        far.write_all(answer.as_bytes()).await.unwrap();
        far.shutdown().await.unwrap();
        let error = ws_connect(near, "host", "/", &WsClientOptions::default())
            .await
            .expect_err(answer);
        assert!(error.to_string().contains(hint), "{answer}: {error}");
    }
    let (near, _far) = duplex(1 << 16);
    let error = ws_connect(near, "host\r\nX: y", "/", &WsClientOptions::default())
        .await
        .expect_err("injected header");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn the_path_of_the_listening_url_counts() {
    let (mut listener, address) =
        listen("ws://127.0.0.1:0/mqtt", &ListenerOptions::default()).await;
    let wrong = address.to_string().replace("/mqtt", "/other");
    let wrong = wrong.parse().unwrap();
    let options = martlet_transport::ConnectOptions::default();
    let (client, server) = tokio::join!(connect(&wrong, &options), async {
        listener.accept().await.unwrap().establish().await
    });
    let error = client.expect_err("another path").to_string();
    assert!(
        error.contains("404 Not Found: WebSocket is served on /mqtt only"),
        "{error}"
    );
    let error = server.expect_err("another path");
    let EstablishError::Upgrade(UpgradeError::Refused { status: 404, .. }) = error else {
        panic!("{error}");
    };
}
