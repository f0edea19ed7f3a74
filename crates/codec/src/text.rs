//! Length-prefixed fields (1.5.4, 1.5.6): text is well-formed UTF-8 without U+0000, binary is anything.
//!
//! Control characters and non-characters, which the specification only advises against, are let
//! through. U+FEFF is ordinary text ([MQTT-1.5.4-3]).

use nom::Parser;
use nom::bytes::complete::take;
use nom::combinator::map_res;

use crate::error::{ErrorKind, Fault, Parsed};

/// Two bytes of length, then that many bytes.
#[inline]
pub(crate) fn binary(input: &[u8]) -> Parsed<'_, &[u8]> {
    let Some((length, rest)) = input.split_first_chunk::<2>() else {
        return Err(Fault::err(ErrorKind::Truncated, input));
    };
    take(u16::from_be_bytes(*length))(rest)
}

/// A binary field that holds text.
#[inline]
pub(crate) fn text(input: &[u8]) -> Parsed<'_, &str> {
    map_res(binary, |bytes| {
        if any(bytes, zeros) {
            return Err(ErrorKind::Utf8Nul);
        }
        core::str::from_utf8(bytes).map_err(|error| classify(bytes, error))
    })
    .parse_complete(input)
}

/// A text field that names a topic: no `+`, `#` or U+0000, for which `wildcard` is the rule.
#[inline]
pub(crate) fn topic_name(input: &[u8], wildcard: ErrorKind) -> Parsed<'_, &str> {
    map_res(binary, |bytes| {
        if has_forbidden(bytes) {
            return Err(forbidden(bytes, wildcard));
        }
        core::str::from_utf8(bytes).map_err(|error| classify(bytes, error))
    })
    .parse_complete(input)
}

/// Whether there is a `+`, `#` or U+0000.
#[inline]
fn has_forbidden(bytes: &[u8]) -> bool {
    // `+` and `#` differ in one bit.
    any(bytes, |word| {
        zeros(word) | zeros(word & !repeat(b'+' ^ b'#') ^ repeat(b'+' & b'#'))
    })
}

/// Whether `wanted` is not zero for any eight bytes. The last eight overlap those before, so that
/// there is no tail; what is shorter than eight is filled up with a byte that nobody wants.
#[inline]
fn any(bytes: &[u8], wanted: impl Fn(u64) -> u64) -> bool {
    if let Some(last) = bytes.last_chunk::<8>() {
        let mut found = wanted(u64::from_ne_bytes(*last));
        for chunk in bytes.as_chunks::<8>().0 {
            found |= wanted(u64::from_ne_bytes(*chunk));
        }
        found != 0
    } else {
        let mut padded = [b'.'; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        wanted(u64::from_ne_bytes(padded)) != 0
    }
}

/// A byte in all eight places.
const fn repeat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Not zero if and only if one of the eight bytes is.
#[inline]
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(repeat(0x01)) & !word & repeat(0x80)
}

/// Which of the forbidden characters came first.
#[cold]
fn forbidden(bytes: &[u8], wildcard: ErrorKind) -> ErrorKind {
    match bytes.iter().find(|byte| matches!(byte, 0 | b'+' | b'#')) {
        Some(0) => ErrorKind::Utf8Nul,
        _ => wildcard,
    }
}

/// Names the rule that ill-formed UTF-8 breaks, from the bytes at the place where it was noticed.
#[cold]
fn classify(bytes: &[u8], error: core::str::Utf8Error) -> ErrorKind {
    match bytes.get(error.valid_up_to()..) {
        Some([0xED, 0xA0..=0xBF, ..]) => ErrorKind::Utf8Surrogate,
        Some([0xC0 | 0xC1, ..] | [0xE0, 0x80..=0x9F, ..] | [0xF0, 0x80..=0x8F, ..]) => {
            ErrorKind::Utf8Overlong
        }
        _ => ErrorKind::Utf8IllFormed,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::error::Fault;

    fn field(bytes: &[u8]) -> Vec<u8> {
        let mut field = Vec::from((bytes.len() as u16).to_be_bytes());
        field.extend_from_slice(bytes);
        field
    }

    fn check_text(bytes: &[u8], expected: Result<&str, ErrorKind>) {
        let field = field(bytes);
        let got = text(&field)
            .map(|(_, text)| text)
            .map_err(|e| Fault::at(&e, &field).kind);
        assert_eq!(got, expected, "{bytes:02X?}");
    }

    fn check_topic(topic: &str, expected: Option<ErrorKind>) {
        let field = field(topic.as_bytes());
        let got = topic_name(&field, ErrorKind::TopicWildcard);
        let got = got
            .map(|(_, text)| text)
            .map_err(|e| Fault::at(&e, &field).kind);
        assert_eq!(got, expected.map_or(Ok(topic), Err), "{topic:?}");
    }

    #[test]
    fn text_is_utf8_without_nul_and_surrogates() {
        check_text(b"", Ok(""));
        check_text(
            "temp\u{20AC}\u{1F600}".as_bytes(),
            Ok("temp\u{20AC}\u{1F600}"),
        );
        check_text(b"\xEF\xBB\xBFa", Ok("\u{FEFF}a"));
        check_text(b"\x01\x7F", Ok("\u{1}\u{7F}"));
        check_text(b"a\0b", Err(ErrorKind::Utf8Nul));
        check_text(b"\xED\xA0\x80", Err(ErrorKind::Utf8Surrogate));
        check_text(b"a\xED\xBF\xBF", Err(ErrorKind::Utf8Surrogate));
        check_text(b"\xED\x9F\xBF", Ok("\u{D7FF}"));
        check_text(b"\xC0\xAF", Err(ErrorKind::Utf8Overlong));
        check_text(b"\xE0\x80\xAF", Err(ErrorKind::Utf8Overlong));
        check_text(b"\xF0\x80\x80\xAF", Err(ErrorKind::Utf8Overlong));
        check_text(b"\xFF", Err(ErrorKind::Utf8IllFormed));
        check_text(b"\x80", Err(ErrorKind::Utf8IllFormed));
        check_text(b"\xE2\x82", Err(ErrorKind::Utf8IllFormed));
        check_text(b"\xF4\x90\x80\x80", Err(ErrorKind::Utf8IllFormed));
        check_text(b"\xF5\x80\x80\x80", Err(ErrorKind::Utf8IllFormed));
    }

    #[test]
    fn topic_names_have_no_wildcards_at_any_place() {
        check_topic("", None);
        check_topic(
            "sport/tennis/player1/ranking/of/the/whole/season/2026",
            None,
        );
        check_topic("+", Some(ErrorKind::TopicWildcard));
        check_topic("sport/+", Some(ErrorKind::TopicWildcard));
        check_topic(
            "sport/tennis/player1/ranking/of/the/whole/season/#",
            Some(ErrorKind::TopicWildcard),
        );
        check_topic("a\0#", Some(ErrorKind::Utf8Nul));
        check_topic("a#\0", Some(ErrorKind::TopicWildcard));
        for at in 0..70 {
            let topic: alloc::string::String =
                (0..70).map(|i| if i == at { '#' } else { 'x' }).collect();
            check_topic(&topic, Some(ErrorKind::TopicWildcard));
        }
    }

    #[test]
    fn a_length_beyond_the_input_is_truncation() {
        for input in [&b""[..], b"\x00", b"\x00\x01", b"\x00\x05abcd"] {
            let error = text(input).unwrap_err();
            assert_eq!(Fault::at(&error, input).kind, ErrorKind::Truncated);
        }
    }
}
