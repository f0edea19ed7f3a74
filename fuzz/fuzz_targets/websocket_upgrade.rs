//! Fuzz target: arbitrary bytes, alone or in place of a part of a good one, as a WebSocket request.
//! The answer is proper HTTP, an accepted request has what RFC 6455 demands, and neither depends on
//! how the bytes were cut. The same bytes as a server's answer never make a client believe in an
//! upgrade.
#![no_main]

#[path = "support/pieces.rs"]
mod pieces;

use libfuzzer_sys::fuzz_target;
use martlet_transport::{UpgradeError, WsClientOptions, WsOptions, ws_accept, ws_connect};
use pieces::{Pieces, block_on};
use tokio::io::AsyncReadExt;

const REQUEST: &[u8] = b"GET /m HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: chat, mqtt\r\n\r\n\x82\x81\0\0\0\0a";

fuzz_target!(|data: &[u8]| {
    let [cut, at, bytes @ ..] = data else {
        return;
    };
    let input = &match at {
        0 => bytes.to_vec(),
        at => {
            let mut request = REQUEST.to_vec();
            let from = usize::from(*at) % request.len();
            let to = request.len().min(from + bytes.len());
            request.splice(from..to, bytes.iter().copied());
            request
        }
    };
    let options = WsOptions {
        path: Some("/m".into()),
        max_header_bytes: 400,
        ..WsOptions::default()
    };
    let outcome = accept(input, 0, &options);
    assert_eq!(accept(input, *cut, &options), outcome);
    if let Outcome::Accepted(_) = outcome {
        let text = String::from_utf8_lossy(input).to_ascii_lowercase();
        for needed in ["get /m", "upgrade", "websocket", "sec-websocket-key", "13"] {
            assert!(text.contains(needed), "accepted without {needed}");
        }
    }
    block_on(async {
        let server = Pieces::new(input.to_vec(), *cut);
        let answer = ws_connect(server, "host", "/", &WsClientOptions::default()).await;
        assert!(answer.is_err(), "nobody can guess the key");
    });
});

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// With what can be read behind the request: bytes or a failure.
    Accepted(Option<Vec<u8>>),
    Refused(u16),
    Closed,
}

fn accept(input: &[u8], cut: u8, options: &WsOptions) -> Outcome {
    block_on(async {
        match ws_accept(Pieces::new(input.to_vec(), cut), options).await {
            Ok(mut stream) => {
                let answer = stream.get_ref().written();
                assert!(answer.starts_with(b"HTTP/1.1 101 ") && answer.ends_with(b"\r\n\r\n"));
                let mut read = Vec::new();
                let end = stream.read_to_end(&mut read).await;
                Outcome::Accepted(end.is_ok().then_some(read))
            }
            Err(UpgradeError::Closed) => Outcome::Closed,
            Err(UpgradeError::Refused { status, reason }) => {
                assert!((400..=505).contains(&status) && !reason.is_empty());
                Outcome::Refused(status)
            }
            Err(error) => panic!("memory does not fail: {error}"),
        }
    })
}
