//! Named packets, byte by byte: well-formed ones, and malformed ones with the rule they break.
//!
//! Unit tests, fuzz seeds and benchmarks share it. The bytes are written out, not built with the
//! encoders of this crate, so that they can prove those wrong.

mod good;
mod malformed_connect;
mod malformed_other;
mod malformed_publish;

use alloc::vec::Vec;

use crate::error::ErrorKind;
use crate::types::Version;

const V31: &[Version] = &[Version::V31];
const V311: &[Version] = &[Version::V311];
const V3: &[Version] = &[Version::V31, Version::V311];
const V5: &[Version] = &[Version::V5];

/// The packet limit that the packets are judged with: 1 MiB.
pub const MAX_PACKET: u32 = 1 << 20;

/// A well-formed packet.
#[derive(Clone, Copy, Debug)]
pub struct Good {
    /// What it is.
    pub name: &'static str,
    /// Where it is well-formed. A CONNECT appears under its own version only.
    pub versions: &'static [Version],
    /// The whole packet.
    pub bytes: &'static [u8],
    /// Whether an encoder writes it just so. If not, it is well-formed all the same, but longer than
    /// it needs to be, or uses what MQTT 3.1 lets pass.
    pub canonical: bool,
}

/// A malformed packet.
#[derive(Clone, Copy, Debug)]
pub struct Malformed {
    /// What is wrong.
    pub name: &'static str,
    /// Where it is malformed in this way.
    pub versions: &'static [Version],
    /// The packet; not always as long as its header says.
    pub bytes: &'static [u8],
    /// The rule.
    pub kind: ErrorKind,
}

const fn exact(name: &'static str, versions: &'static [Version], bytes: &'static [u8]) -> Good {
    Good {
        name,
        versions,
        bytes,
        canonical: true,
    }
}

const fn lenient(name: &'static str, versions: &'static [Version], bytes: &'static [u8]) -> Good {
    Good {
        name,
        versions,
        bytes,
        canonical: false,
    }
}

const fn bad(
    name: &'static str,
    versions: &'static [Version],
    bytes: &'static [u8],
    kind: ErrorKind,
) -> Malformed {
    Malformed {
        name,
        versions,
        bytes,
        kind,
    }
}

/// All well-formed packets.
pub fn good() -> impl Iterator<Item = &'static Good> + Clone {
    good::GOOD.iter()
}

/// All malformed packets.
pub fn malformed() -> impl Iterator<Item = &'static Malformed> + Clone {
    let tables = [
        malformed_connect::CONNECT,
        malformed_publish::PUBLISH,
        malformed_other::OTHER,
    ];
    tables.into_iter().flatten()
}

/// A PUBLISH of MQTT 5 with `count` user properties, for the bound on their number
/// ([`crate::MAX_REPEATED_PROPERTIES`]). `count` is at most 50,000.
pub fn publish_with_user_properties(count: usize) -> Vec<u8> {
    let mut props = Vec::new();
    for _ in 0..count {
        props.extend_from_slice(b"\x26\x00\x00\x00\x00");
    }
    let mut packet = Vec::from(*b"\x30");
    let props_len = props.len() as u32;
    crate::varint::put(
        3 + crate::varint::len(props_len) as u32 + props_len,
        &mut packet,
    );
    packet.extend_from_slice(b"\x00\x01a");
    crate::varint::put(props_len, &mut packet);
    packet.extend_from_slice(&props);
    packet
}

/// A name as a file name: lower case, words joined by hyphens.
pub fn file_name(name: &str) -> alloc::string::String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    name.chars().map(plain).collect()
}

/// Fuzz seeds: a file name and bytes for each packet and version. The first byte says the version
/// (0 is 3.1, 1 is 3.1.1, 2 is 5.0), the rest is the packet.
pub fn seeds() -> impl Iterator<Item = (alloc::string::String, Vec<u8>)> {
    let good = good().map(|case| (case.name, case.versions, case.bytes));
    let malformed = malformed().map(|case| (case.name, case.versions, case.bytes));
    good.chain(malformed).flat_map(|(name, versions, bytes)| {
        versions.iter().map(move |version| {
            let mut seed = Vec::from([*version as u8 - Version::V31 as u8]);
            seed.extend_from_slice(bytes);
            (
                alloc::format!("{}.v{}", file_name(name), *version as u8),
                seed,
            )
        })
    })
}
