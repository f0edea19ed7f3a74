//! Fuzz target: a stream of arbitrary bytes, cut into chunks as the first byte says, yields the
//! same packets and the same end as in one piece; and no partial answer asks for too little or for
//! more than the packet limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use martlet_codec::{DecodeError, Split, split};

/// Small, so that the fuzzer meets the limit.
const MAX_PACKET: u32 = 300;

fuzz_target!(|data: &[u8]| {
    let Some((&cut, stream)) = data.split_first() else {
        return;
    };
    let chunk = usize::from(cut % 16) + 1;
    assert_eq!(in_chunks(stream, chunk), in_one_piece(stream));
});

/// The lengths of the packets, and the error that ended the stream.
type Outcome = (Vec<usize>, Option<DecodeError>);

fn in_one_piece(mut stream: &[u8]) -> Outcome {
    let mut lengths = Vec::new();
    loop {
        match split(stream, MAX_PACKET) {
            Ok(Split::Frame(frame)) => {
                assert!(frame.len <= MAX_PACKET as usize);
                assert_eq!(frame.body, &stream[frame.len - frame.body.len()..frame.len]);
                lengths.push(frame.len);
                stream = &stream[frame.len..];
            }
            Ok(Split::Partial { need }) => {
                assert!(need > stream.len() && need <= MAX_PACKET as usize);
                return (lengths, None);
            }
            Err(error) => return (lengths, Some(error)),
        }
    }
}

fn in_chunks(stream: &[u8], chunk: usize) -> Outcome {
    let mut lengths = Vec::new();
    let mut buffer: Vec<u8> = Vec::new();
    let mut wanted = 0;
    for piece in stream.chunks(chunk) {
        buffer.extend_from_slice(piece);
        if buffer.len() < wanted {
            continue;
        }
        loop {
            match split(&buffer, MAX_PACKET) {
                Ok(Split::Frame(frame)) => {
                    let len = frame.len;
                    lengths.push(len);
                    buffer.drain(..len);
                }
                Ok(Split::Partial { need }) => {
                    wanted = need;
                    // Asks for one byte too many behind a packet of some length.
                    #[cfg(planted_bug)]
                    {
                        wanted += usize::from(need > 16);
                    }
                    break;
                }
                Err(error) => return (lengths, Some(error)),
            }
        }
    }
    // A reader that waits for what was asked for may not have seen a broken first byte yet.
    (lengths, split(&buffer, MAX_PACKET).err())
}
