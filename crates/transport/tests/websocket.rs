//! The WebSocket framing, byte by byte and against an independent implementation.

mod common;

use common::Choppy;
use futures_util::{SinkExt, StreamExt};
use martlet_transport::{
    FrameError, Role, WsClientOptions, WsOptions, WsStream, ws_accept, ws_connect, ws_stream,
};
use std::io::{ErrorKind, IoSlice};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

const FRAME_MAX: u64 = 70_000;

/// A frame as a client sends it, masked with 1 2 3 4.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=65_535 => {
            frame.push(0xFE);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0xFF);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[1, 2, 3, 4]);
    let mask = [1, 2, 3, 4].into_iter().cycle();
    frame.extend(payload.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A server over memory and the raw other end.
fn server() -> (WsStream<DuplexStream>, DuplexStream) {
    let (near, far) = duplex(1 << 20);
    (ws_stream(near, Role::Server, FRAME_MAX), far)
}

/// What a server reads from `input` at once and in pieces of every small size, and what it sends
/// in answer when it closes. The ends must all be equal.
async fn serve(input: &[u8]) -> (Vec<u8>, Result<(), String>, Vec<u8>) {
    let mut results = Vec::new();
    let pieces: &[usize] = if input.len() < 10_000 {
        &[1, 2, 3, 5, 13]
    } else {
        &[997]
    };
    for &piece in [input.len().max(1)].iter().chain(pieces) {
        let (mut stream, mut far) = server();
        let feed = async {
            for chunk in input.chunks(piece) {
                far.write_all(chunk).await.unwrap();
                tokio::task::yield_now().await;
            }
            far.shutdown().await.unwrap();
        };
        let read = async {
            let mut payload = Vec::new();
            let end = stream.read_to_end(&mut payload).await;
            (payload, end.map(drop).map_err(|error| error.to_string()))
        };
        let ((), (payload, end)) = tokio::join!(feed, read);
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).await.unwrap();
        results.push((payload, end, answer));
    }
    let first = results.swap_remove(0);
    for other in results {
        assert_eq!(other, first, "the split changes the result");
    }
    first
}

/// A close frame from the server.
fn close(code: u16, reason: &str) -> Vec<u8> {
    let mut frame = vec![0x88, 2 + reason.len() as u8];
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(reason.as_bytes());
    frame
}

#[tokio::test]
async fn frames_that_are_fine() {
    let long = vec![7; 300];
    let longer = vec![8; 66_000];
    let goodbye = close(1000, "");
    let cases = [
        // name | frames | payload | answer, the close frame of our shutdown included
        (
            "one frame",
            vec![masked(0x82, b"abc")],
            b"abc".to_vec(),
            goodbye.clone(),
        ),
        (
            "several frames",
            vec![masked(0x82, b"ab"), masked(0x82, b"c")],
            b"abc".to_vec(),
            goodbye.clone(),
        ),
        (
            "16-bit length",
            vec![masked(0x82, &long)],
            long.clone(),
            goodbye.clone(),
        ),
        (
            "64-bit length",
            vec![masked(0x82, &longer)],
            longer.clone(),
            goodbye.clone(),
        ),
        (
            "a longer length than needed",
            vec![b"\x82\xFE\x00\x01\0\0\0\0a".to_vec()],
            b"a".to_vec(),
            goodbye.clone(),
        ),
        (
            "empty frames",
            vec![
                masked(0x82, b""),
                masked(0x82, b""),
                masked(0x82, b"x"),
                masked(0x82, b""),
            ],
            b"x".to_vec(),
            goodbye.clone(),
        ),
        (
            "fragments, a ping between them",
            vec![
                masked(0x02, b"ab"),
                masked(0x89, b"hey"),
                masked(0x00, b""),
                masked(0x80, b"c"),
            ],
            b"abc".to_vec(),
            [b"\x8A\x03hey".to_vec(), goodbye.clone()].concat(),
        ),
        (
            "an unasked pong",
            vec![masked(0x8A, b"?"), masked(0x82, b"a")],
            b"a".to_vec(),
            goodbye.clone(),
        ),
        ("nothing", vec![], vec![], goodbye.clone()),
        (
            "close without a code",
            vec![
                masked(0x82, b"a"),
                masked(0x88, b""),
                masked(0x82, b"ignored"),
            ],
            b"a".to_vec(),
            b"\x88\x00".to_vec(),
        ),
        (
            "close with a code and a reason",
            vec![masked(0x88, b"\x03\xE9going")],
            vec![],
            close(1001, ""),
        ),
    ];
    for (name, frames, payload, answer) in cases {
        let (got, end, answered) = serve(&frames.concat()).await;
        assert_eq!(end, Ok(()), "{name}");
        assert!(got == payload, "{name}: {} bytes", got.len());
        assert_eq!(answered, answer, "{name}");
    }
}

#[tokio::test]
async fn frames_that_break_a_rule() {
    let fragment = masked(0x02, b"a");
    let huge = b"\x82\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0\0\0".to_vec();
    let cases = [
        // frames behind one good byte | close code | error
        (masked(0x81, b"text"), 1003, FrameError::Text),
        (b"\x82\x01a".to_vec(), 1002, FrameError::Unmasked),
        (masked(0xC2, b""), 1002, FrameError::ReservedBit),
        (masked(0x83, b""), 1002, FrameError::Opcode(3)),
        (masked(0x8B, b""), 1002, FrameError::Opcode(11)),
        (masked(0x80, b"a"), 1002, FrameError::Continuation),
        (
            [fragment.clone(), masked(0x82, b"")].concat(),
            1002,
            FrameError::MessageInterrupted,
        ),
        (masked(0x09, b""), 1002, FrameError::ControlFragmented),
        (masked(0x89, &[0; 126]), 1002, FrameError::ControlTooLong),
        (masked(0x88, b"\x03"), 1002, FrameError::BadCloseCode),
        (masked(0x88, b"\x03\xED"), 1002, FrameError::BadCloseCode),
        (
            masked(0x82, &vec![0; 70_001]),
            1009,
            FrameError::TooLarge {
                len: 70_001,
                max: FRAME_MAX,
            },
        ),
        (
            huge,
            1009,
            FrameError::TooLarge {
                len: i64::MAX as u64,
                max: FRAME_MAX,
            },
        ),
    ];
    for (frames, code, error) in cases {
        let good = if frames.starts_with(&fragment) {
            "!a"
        } else {
            "!"
        };
        let input = [masked(0x82, b"!"), frames, masked(0x82, b"ignored")].concat();
        let (payload, end, answered) = serve(&input).await;
        assert_eq!(end, Err(error.to_string()));
        assert_eq!(payload, good.as_bytes(), "{error}: what came before counts");
        assert_eq!(answered, close(code, &error.to_string()), "{error}");
        assert_eq!(error.close_code(), code);
    }
}

#[tokio::test]
async fn errors_carry_the_broken_rule_and_stay() {
    let (mut stream, mut far) = server();
    far.write_all(&masked(0x81, b"hello")).await.unwrap();
    for _ in 0..2 {
        let error = stream.read(&mut [0; 10]).await.expect_err("text");
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(FrameError::try_from(&error), Ok(FrameError::Text));
    }
    let error = stream.write(b"a").await.expect_err("a close was sent");
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_connection_lost_inside_a_frame_is_not_a_clean_end() {
    for (input, clean) in [
        (&b""[..], true),
        (b"\x82", false),
        (b"\x82\x81\0\0", false),
        (b"\x82\x83\0\0\0\0ab", false),
        (b"\x82\x82\0\0\0\0ab", true),
        (b"\x02\x82\0\0\0\0ab", false),
    ] {
        let (mut stream, mut far) = server();
        far.write_all(input).await.unwrap();
        drop(far);
        match stream.read_to_end(&mut Vec::new()).await {
            Ok(_) => assert!(clean, "{input:02x?}"),
            Err(error) => {
                assert!(!clean, "{input:02x?}: {error}");
                assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            }
        }
    }
}

#[tokio::test]
async fn a_client_refuses_masked_frames() {
    let (near, mut far) = duplex(1000);
    let mut client = ws_stream(near, Role::Client, FRAME_MAX);
    far.write_all(&masked(0x82, b"a")).await.unwrap();
    let error = client.read(&mut [0; 10]).await.expect_err("masked");
    assert_eq!(FrameError::try_from(&error), Ok(FrameError::Masked));
}

#[tokio::test]
async fn one_vectored_write_is_one_frame() {
    let (mut stream, mut far) = server();
    let slices = [b"abc".as_slice(), b"", b"defg", &[0; 200]].map(IoSlice::new);
    assert_eq!(stream.write_vectored(&slices).await.unwrap(), 207);
    let mut frame = vec![0; 4 + 207];
    far.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[..4], [0x82, 126, 0, 207]);
    assert_eq!(&frame[4..11], b"abcdefg");
    // An empty write is no frame.
    assert_eq!(stream.write(b"").await.unwrap(), 0);
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, close(1000, ""));
}

#[tokio::test]
async fn an_open_frame_is_completed_before_a_pong_or_a_further_frame() {
    let (near, mut far) = duplex(10);
    let mut stream = ws_stream(near, Role::Server, FRAME_MAX);
    // Ten bytes of room: two of header, eight of payload.
    assert_eq!(stream.write(&[1; 12]).await.unwrap(), 8);
    far.write_all(&masked(0x89, b"p")).await.unwrap();
    far.write_all(&masked(0x82, b"x")[..3]).await.unwrap();
    let read = async {
        // Sees the ping, cannot answer yet.
        stream.read(&mut [0; 10]).await
    };
    tokio::select! {
        biased;
        _ = read => panic!("there is no payload yet"),
        () = tokio::task::yield_now() => {}
    }
    let mut frame = [0; 10];
    far.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame, [0x82, 12, 1, 1, 1, 1, 1, 1, 1, 1]);
    // The remaining four bytes of the frame, although more are given.
    assert_eq!(stream.write(&[1, 1, 1, 1, 2, 2]).await.unwrap(), 4);
    // The pong slipped in; then the rest makes a new frame.
    assert_eq!(stream.write(&[2, 2]).await.unwrap(), 1);
    let mut rest = [0; 10];
    far.read_exact(&mut rest).await.unwrap();
    assert_eq!(rest, [1, 1, 1, 1, 0x8A, 1, b'p', 0x82, 2, 2]);
}

#[tokio::test]
async fn of_many_pings_the_latest_is_answered() {
    // No room at all at first: pongs must not pile up.
    let (near, mut far) = duplex(64);
    let mut stream = ws_stream(near, Role::Server, FRAME_MAX);
    assert_eq!(stream.write(&[0; 62]).await.unwrap(), 62);
    let pings = async {
        for number in 0..100_u8 {
            far.write_all(&masked(0x89, &[number])).await.unwrap();
        }
        far.write_all(&masked(0x82, b"x")).await.unwrap();
    };
    let mut payload = [0; 10];
    let (read, ()) = tokio::join!(stream.read(&mut payload), pings);
    assert_eq!(read.unwrap(), 1);
    far.read_exact(&mut [0; 64]).await.unwrap();
    stream.flush().await.unwrap();
    drop(stream);
    let mut answers = Vec::new();
    far.read_to_end(&mut answers).await.unwrap();
    // The first was on its way already when the second came.
    assert_eq!(answers, [0x8A, 1, 0, 0x8A, 1, 99]);
}

#[tokio::test]
async fn pings_alone_do_not_monopolise_the_task() {
    let (near, mut far) = duplex(1 << 20);
    let mut stream = ws_stream(Choppy::new(near), Role::Server, FRAME_MAX);
    for _ in 0..1000 {
        far.write_all(&masked(0x8A, b"")).await.unwrap();
    }
    let read = async { stream.read(&mut [0; 8]).await };
    tokio::select! {
        biased;
        _ = read => panic!("there is no payload"),
        () = tokio::task::yield_now() => {}
    }
}

#[tokio::test]
async fn a_tungstenite_client_talks_to_our_server() {
    let (near, far) = duplex(1000);
    let server = tokio::spawn(async move {
        let options = WsOptions::default();
        let mut stream = ws_accept(far, &options).await.unwrap();
        let mut received = vec![0; 100_003];
        stream.read_exact(&mut received).await.unwrap();
        stream.write_all(&received).await.unwrap();
        assert_eq!(stream.read(&mut received).await.unwrap(), 0);
        stream.shutdown().await.unwrap();
        received
    });
    let (mut client, response) = tokio_tungstenite::client_async("ws://host/mqtt", near)
        .await
        .unwrap();
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
    client.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    client.send(Message::Ping(vec![9].into())).await.unwrap();
    let large = common::pattern(100_000);
    let (read, write) = {
        let (mut write, mut read) = client.split();
        let sent = large.clone();
        let write = tokio::spawn(async move {
            write.send(Message::binary(sent)).await.unwrap();
            write
        });
        let mut received = Vec::new();
        let mut pongs = 0;
        while received.len() < 100_003 {
            match read.next().await.unwrap().unwrap() {
                Message::Binary(bytes) => received.extend_from_slice(&bytes),
                Message::Pong(payload) => {
                    assert_eq!(payload[..], [9]);
                    pongs += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(pongs, 1);
        assert_eq!(received[..3], [1, 2, 3]);
        assert!(received[3..] == large);
        (read, write.await.unwrap())
    };
    let mut client = read.reunite(write).unwrap();
    let normal = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    client.close(Some(normal.clone())).await.unwrap();
    let answer = client.next().await.unwrap().unwrap();
    assert_eq!(answer, Message::Close(Some(normal)));
    assert!(client.next().await.is_none());
    server.await.unwrap();
}

#[tokio::test]
async fn our_client_talks_to_a_tungstenite_server() {
    let (near, far) = duplex(1000);
    let server = tokio::spawn(async move {
        let mut server = tokio_tungstenite::accept_async(far).await.unwrap();
        let mut received = Vec::new();
        while received.len() < 100_000 {
            match server.next().await.unwrap().unwrap() {
                Message::Binary(bytes) => received.extend_from_slice(&bytes),
                other => panic!("{other:?}"),
            }
        }
        server.send(Message::binary(received)).await.unwrap();
        let end = server.next().await.unwrap().unwrap();
        assert!(matches!(end, Message::Close(Some(_))), "{end:?}");
        assert!(server.next().await.is_none());
    });
    let options = WsClientOptions {
        subprotocols: Vec::new(),
        ..WsClientOptions::default()
    };
    let mut client = ws_connect(near, "host", "/", &options).await.unwrap();
    let sent = common::pattern(100_000);
    client.write_all(&sent).await.unwrap();
    let mut back = vec![0; 100_000];
    client.read_exact(&mut back).await.unwrap();
    assert!(back == sent);
    client.shutdown().await.unwrap();
    server.await.unwrap();
}
