//! The connection that tests of brokers use.

use martlet_client::codec::{ConnAck, Packet, Props, ReasonCode, Version};
use martlet_client::{RawConnection, RawError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

const PING_RESPONSE: &[u8] = b"\xD0\x00";

#[tokio::test]
async fn packets_come_whole_however_they_arrive() {
    let (near, mut far) = duplex(1000);
    let mut connection = RawConnection::over(near).version(Version::V5);
    for byte in b"\x20\x03\x00\x87\x00" {
        far.write_all(&[*byte]).await.unwrap();
    }
    far.write_all(PING_RESPONSE).await.unwrap();
    let refused = Packet::ConnAck(ConnAck {
        session_present: false,
        reason: ReasonCode::NotAuthorized,
        props: Props::EMPTY,
    });
    connection.expect(&refused).await.unwrap();
    let packet = connection.receive().await.unwrap();
    assert_eq!(packet.as_bytes(), PING_RESPONSE);
    far.write_all(b"\x00raw").await.unwrap();
    assert_eq!(&connection.receive_bytes().await.unwrap()[..], b"\x00raw");
    drop(far);
    connection.expect_eof().await.unwrap();
    assert!(connection.receive_bytes().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_goes_differently_is_told() {
    let (near, mut far) = duplex(1000);
    let mut connection = RawConnection::over(near).limit(Duration::from_secs(2));
    let error = connection.receive().await.expect_err("silence");
    assert_eq!(error.to_string(), "nothing came within 2 s");

    far.write_all(PING_RESPONSE).await.unwrap();
    let error = connection
        .expect(&Packet::PingReq)
        .await
        .expect_err("other");
    assert_eq!(error.to_string(), "expected PingReq, got PingResp");

    far.write_all(PING_RESPONSE).await.unwrap();
    let error = connection.expect_eof().await.expect_err("a packet");
    assert_eq!(
        error.to_string(),
        "expected the end of the stream, got PingResp"
    );

    far.write_all(b"\x00\x00").await.unwrap();
    let error = connection.receive().await.expect_err("malformed");
    assert!(matches!(error, RawError::Decode(_)), "{error:?}");
}

#[tokio::test]
async fn silence_is_shown_by_a_ping() {
    let (near, mut far) = duplex(1000);
    let mut connection = RawConnection::over(near);
    far.write_all(PING_RESPONSE).await.unwrap();
    connection.expect_nothing().await.unwrap();
    let mut sent = [0; 2];
    far.read_exact(&mut sent).await.unwrap();
    assert_eq!(sent, [0xC0, 0]);
    far.write_all(b"\x30\x03\x00\x01a").await.unwrap();
    far.write_all(PING_RESPONSE).await.unwrap();
    let error = connection.expect_nothing().await.expect_err("a message");
    assert!(matches!(error, RawError::Unexpected { .. }), "{error:?}");
}
