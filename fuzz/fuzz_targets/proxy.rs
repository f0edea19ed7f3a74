//! Fuzz target: arbitrary bytes, alone or in place of a part of a good header, as the beginning of a connection from a
//! proxy. Parsing never asks for a byte behind the header, comes to the same however the bytes are cut, and believes
//! nothing that is not there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use martlet_transport::{ProxyError, ProxyHeader, ProxyParse};

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 1883\r\nhello";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x24\xC0\0\x02\x01\xC0\0\x02\x02\x12\x67\x07\x5B\
    \x20\0\x0B\x07\0\0\0\0\x22\0\x03ada\x03\0\x04\0\0\0\0\x04\0\0hello";

fuzz_target!(|data: &[u8]| {
    let [at, bytes @ ..] = data else {
        return;
    };
    let input = match at {
        0 => bytes.to_vec(),
        at => {
            let mut header = if at & 1 == 0 { V1 } else { V2 }.to_vec();
            let from = usize::from(at >> 1) % header.len();
            let to = header.len().min(from + bytes.len());
            header.splice(from..to, bytes.iter().copied());
            header
        }
    };
    let whole = ProxyHeader::parse(&input);
    // Byte by byte as it asks for them, as a careful reader does.
    let mut have = 0;
    let careful = loop {
        match ProxyHeader::parse(&input[..have]) {
            Ok(ProxyParse::Incomplete(missing)) => {
                assert!(missing > 0, "asks for nothing");
                if have + missing > input.len() {
                    break Ok(ProxyParse::Incomplete(missing));
                }
                have += missing;
            }
            Ok(ProxyParse::Complete(header, len)) => {
                assert_eq!(len, have, "asked for bytes behind the header");
                break Ok(ProxyParse::Complete(header, len));
            }
            Err(error) => break Err(error),
        }
    };
    match (&careful, &whole) {
        (Ok(ProxyParse::Complete(..)), _) => assert_eq!(careful, whole),
        // With more bytes it may know more, but not the contrary.
        (Err(ProxyError::Missing), _) => assert_eq!(whole, Err(ProxyError::Missing)),
        (Err(_), Err(_)) | (Ok(_), Ok(ProxyParse::Incomplete(_)) | Err(_)) => {}
        other => panic!("{other:?}"),
    }
    if let Ok(ProxyParse::Complete(header, len)) = whole {
        assert!((15..=16 + 4096).contains(&len) && len <= input.len());
        assert!(input.starts_with(b"PROXY ") || input.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
        if let Some(name) = header.common_name {
            assert!(
                input[..len]
                    .windows(name.len().max(1))
                    .any(|part| part == name.as_bytes())
                    || name.is_empty()
            );
        }
        if input.starts_with(b"PROXY ") {
            let line = &input[..len];
            assert!(len <= 107 && line.ends_with(b"\r\n"));
        }
    }
});
