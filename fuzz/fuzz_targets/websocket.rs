//! Fuzz target: WebSocket framing as a byte stream, in both directions.
//!
//! Reading: arbitrary bytes, in pieces and with pauses as the first byte says, yield the payload
//! and the end that a naive reader of the whole input finds. Writing: what one side writes in any
//! pieces through a stream that takes any part of it, the other side reads unchanged.
#![no_main]

#[path = "support/pieces.rs"]
mod pieces;

use libfuzzer_sys::fuzz_target;
use martlet_transport::{FrameError, Role, ws_stream};
use pieces::{Pieces, block_on};
use std::io::{ErrorKind, IoSlice};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Small, so that the fuzzer meets the limit.
const FRAME_MAX: u64 = 2000;

fuzz_target!(|data: &[u8]| {
    let [cut, input @ ..] = data else {
        return;
    };
    if cut & 0x80 == 0 {
        read(input, *cut);
    } else {
        write(input, *cut);
    }
});

/// How reading ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Clean,
    Cut,
    Failed,
}

fn read(input: &[u8], cut: u8) {
    for role in [Role::Server, Role::Client] {
        let (payload, end) = block_on(async {
            let mut stream = ws_stream(Pieces::new(input.to_vec(), cut), role, FRAME_MAX);
            let mut payload = Vec::new();
            let mut buf = vec![0; usize::from(cut & 0x3F) + 1];
            let end = loop {
                match stream.read(&mut buf).await {
                    Ok(0) => break End::Clean,
                    Ok(n) => payload.extend_from_slice(&buf[..n]),
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => break End::Cut,
                    Err(error) => {
                        FrameError::try_from(&error).expect("only frame errors are left");
                        break End::Failed;
                    }
                }
            };
            stream.shutdown().await.expect("memory does not fail");
            (payload, end)
        });
        assert_eq!((payload, end), naive(input, role));
    }
}

/// RFC 6455 in a few lines, over the whole input.
fn naive(mut input: &[u8], role: Role) -> (Vec<u8>, End) {
    let mut payload = Vec::new();
    let mut fragmented = false;
    loop {
        if input.is_empty() {
            let end = if fragmented { End::Cut } else { End::Clean };
            return (payload, end);
        }
        let [first, second, rest @ ..] = input else {
            return (payload, End::Cut);
        };
        let (last, opcode) = (first & 0x80 != 0, first & 0x0F);
        let (masked, short) = (second & 0x80 != 0, second & 0x7F);
        let fine = match opcode {
            0 => fragmented,
            2 => !fragmented,
            8..=10 => last && short <= 125,
            _ => false,
        };
        if first & 0x70 != 0 || !fine || masked != (role == Role::Server) {
            return (payload, End::Failed);
        }
        let length_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_bytes = if masked { 4 } else { 0 };
        if rest.len() < length_bytes + mask_bytes {
            return (payload, End::Cut);
        }
        let (length, rest) = rest.split_at(length_bytes);
        let (mask, rest) = rest.split_at(mask_bytes);
        let len = match length {
            [] => u64::from(short),
            bytes => bytes.iter().fold(0, |len, b| len << 8 | u64::from(*b)),
        };
        if opcode < 8 && len > FRAME_MAX {
            return (payload, End::Failed);
        }
        let whole = len <= rest.len() as u64;
        let (body, rest) = rest.split_at(rest.len().min(len as usize));
        let unmasked = body.iter().enumerate().map(|(at, byte)| match mask {
            [] => *byte,
            mask => byte ^ mask[at % 4],
        });
        if opcode < 8 {
            payload.extend(unmasked);
            fragmented = !last;
        } else if opcode == 8 && whole {
            let body: Vec<u8> = unmasked.collect();
            let code = match body[..] {
                [] => 1000,
                [_] => 0,
                [high, low, ..] => u16::from_be_bytes([high, low]),
            };
            let fine = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            let end = if fine { End::Clean } else { End::Failed };
            return (payload, end);
        }
        if !whole {
            return (payload, End::Cut);
        }
        input = rest;
    }
}

fn write(input: &[u8], cut: u8) {
    for (role, peer) in [(Role::Client, Role::Server), (Role::Server, Role::Client)] {
        block_on(async {
            // A ping waits to be answered between the frames.
            let ping: &[u8] = match peer {
                Role::Server => b"\x89\x02hi",
                Role::Client => b"\x89\x82\0\0\0\0hi",
            };
            let mut writer = ws_stream(Pieces::new(ping.to_vec(), cut), role, FRAME_MAX);
            let mut sent = 0;
            let mut turn = usize::from(cut);
            while sent < input.len() {
                turn = turn.wrapping_mul(5).wrapping_add(1);
                let piece = &input[sent..input.len().min(sent + 1 + turn % 300)];
                let (a, b) = piece.split_at(turn % (piece.len() + 1));
                let slices = [IoSlice::new(a), IoSlice::new(&[]), IoSlice::new(b)];
                sent += writer.write_vectored(&slices).await.expect("memory");
                if turn.is_multiple_of(4) {
                    writer.flush().await.expect("memory");
                }
                if turn.is_multiple_of(7) {
                    assert_eq!(writer.read(&mut [0; 4]).await.expect("a ping"), 0);
                }
            }
            writer.shutdown().await.expect("memory");
            let wire = writer.get_ref().written().to_vec();
            let mut reader = ws_stream(Pieces::new(wire, cut), peer, u64::MAX);
            let mut read = Vec::new();
            reader.read_to_end(&mut read).await.expect("proper frames");
            assert!(read == input);
        });
    }
}
