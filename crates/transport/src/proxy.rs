//! The PROXY protocol, versions 1 and 2: who really connects, as a balancer in front tells it.
//!
//! [`ProxyHeader::parse`] is a plain function over bytes; reading takes from the stream exactly the bytes of the header,
//! so that whatever follows is left to the layers above.
//!
//! Deliberately absent: sending headers, and datagrams.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt as _};

const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its end included.
const V1_BYTES_MAX: usize = 107;
/// The shortest line of version 1, `PROXY UNKNOWN` and its end.
const V1_BYTES_MIN: usize = 15;
/// Signature, command, family and length of version 2.
const V2_HEAD_BYTES: usize = 16;
/// What follows them at most; balancers send a few hundred bytes.
const V2_REST_BYTES_MAX: usize = 4096;
/// Longest common name that is taken over; certificates allow 64 characters.
const COMMON_NAME_BYTES_MAX: usize = 1024;

/// What a balancer says about a connection that it passes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Who connected to the balancer; `None` when it speaks for itself (health checks), or does not
    /// know.
    pub source: Option<SocketAddr>,
    /// The common name of the client's certificate, which the balancer has verified.
    pub common_name: Option<String>,
}

/// The result of looking at the beginning of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyParse {
    /// At least so many bytes are missing.
    Incomplete(usize),
    /// A header and its length in bytes.
    Complete(ProxyHeader, usize),
}

/// Why a connection does not begin with a proper header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// It does not begin like one.
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    /// It begins like one and breaks the format.
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
    /// The peer is not one that may send it.
    #[error("the peer is not in trusted_proxies, and this listener is for proxies only")]
    Untrusted,
    /// The connection ended inside of it.
    #[error("the peer closed inside the PROXY header")]
    Closed,
    /// Reading failed.
    #[error("reading the PROXY header: {0}")]
    Io(io::ErrorKind),
}

use ProxyError::Malformed;

impl ProxyHeader {
    /// Looks at the first bytes of a connection. Never asks for a byte behind the header.
    ///
    /// # Errors
    /// [`ProxyError::Missing`] as soon as no continuation can make it a header, otherwise
    /// [`ProxyError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<ProxyParse, ProxyError> {
        let begins = |signature: &[u8]| {
            let len = bytes.len().min(signature.len());
            bytes[..len] == signature[..len]
        };
        if begins(SIGNATURE_V1) {
            parse_v1(bytes)
        } else if begins(SIGNATURE_V2) {
            parse_v2(bytes)
        } else {
            Err(ProxyError::Missing)
        }
    }

    /// Reads a header and nothing else. The caller bounds it in time.
    pub(crate) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Self, ProxyError> {
        let mut bytes = Vec::new();
        loop {
            let missing = match Self::parse(&bytes)? {
                ProxyParse::Complete(header, _) => return Ok(header),
                ProxyParse::Incomplete(missing) => missing,
            };
            let read = stream.take(missing as u64).read_buf(&mut bytes).await;
            match read {
                Ok(0) => return Err(ProxyError::Closed),
                Ok(_) => {}
                Err(error) => return Err(ProxyError::Io(error.kind())),
            }
        }
    }
}

fn parse_v1(bytes: &[u8]) -> Result<ProxyParse, ProxyError> {
    let line = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() >= V1_BYTES_MAX {
            Err(Malformed("the line is longer than 107 bytes"))
        } else {
            let missing = V1_BYTES_MIN.saturating_sub(bytes.len()).max(1);
            Ok(ProxyParse::Incomplete(missing))
        };
    };
    let line = std::str::from_utf8(&line[..end]).map_err(|_| Malformed("not text"))?;
    let mut words = line.split(' ');
    // The signature.
    words.next();
    let complete = |source| {
        let header = ProxyHeader {
            source,
            common_name: None,
        };
        let line_end = if cfg!(planted_bug) { 1 } else { 2 };
        Ok(ProxyParse::Complete(header, end + line_end))
    };
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // Whatever stands behind it is to be ignored.
        return complete(None);
    }
    let mut address = || {
        let address: IpAddr = words.next()?.parse().ok()?;
        let fits = match family {
            "TCP4" => address.is_ipv4(),
            "TCP6" => address.is_ipv6(),
            _ => false,
        };
        fits.then_some(address)
    };
    let (Some(source), Some(_)) = (address(), address()) else {
        return Err(Malformed("not two addresses of a known family"));
    };
    let mut port = || {
        let digits = words.next()?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u16>().ok()).flatten()
    };
    let (Some(port), Some(_)) = (port(), port()) else {
        return Err(Malformed("not two ports"));
    };
    if words.next().is_some() {
        return Err(Malformed("words behind the ports"));
    }
    complete(Some(SocketAddr::new(source, port)))
}

fn parse_v2(bytes: &[u8]) -> Result<ProxyParse, ProxyError> {
    let Some((head, rest)) = bytes.split_at_checked(V2_HEAD_BYTES) else {
        return Ok(ProxyParse::Incomplete(V2_HEAD_BYTES - bytes.len()));
    };
    let (version_and_command, family) = (head[12], head[13]);
    let len = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if version_and_command >> 4 != 2 {
        return Err(Malformed("not version 2"));
    }
    if len > V2_REST_BYTES_MAX {
        return Err(Malformed("longer than 4096 bytes"));
    }
    let Some(rest) = rest.get(..len) else {
        return Ok(ProxyParse::Incomplete(len - rest.len()));
    };
    let (source, values) = match version_and_command & 0x0F {
        // The balancer speaks for itself; addresses are to be ignored.
        0 => (None, &[][..]),
        1 => v2_addresses(family, rest)?,
        _ => return Err(Malformed("an unknown command")),
    };
    let values = v2_values(values)?;
    if let Some(checksum) = values.checksum
        && checksum_of(&bytes[..V2_HEAD_BYTES + len], values.checksum_at) != checksum
    {
        return Err(Malformed("the checksum does not fit"));
    }
    let header = ProxyHeader {
        source,
        common_name: values.common_name,
    };
    Ok(ProxyParse::Complete(header, V2_HEAD_BYTES + len))
}

/// The source, and what stands behind the addresses.
fn v2_addresses(family: u8, rest: &[u8]) -> Result<(Option<SocketAddr>, &[u8]), ProxyError> {
    const SHORT: ProxyError = Malformed("too short for its addresses");
    let port = |rest: &[u8], at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    match family {
        // TCP and UDP over IPv4; nobody hands datagrams to a stream, but the address would be right.
        0x11 | 0x12 => {
            let (own, values) = rest.split_at_checked(12).ok_or(SHORT)?;
            let source = Ipv4Addr::new(own[0], own[1], own[2], own[3]);
            Ok((Some(SocketAddr::new(source.into(), port(own, 8))), values))
        }
        0x21 | 0x22 => {
            let (own, values) = rest.split_at_checked(36).ok_or(SHORT)?;
            let source: [u8; 16] = own[..16].try_into().map_err(|_| SHORT)?;
            let source = Ipv6Addr::from(source);
            Ok((Some(SocketAddr::new(source.into(), port(own, 32))), values))
        }
        // Unix sockets on the balancer's machine.
        0x31 | 0x32 => {
            let (_, values) = rest.split_at_checked(216).ok_or(SHORT)?;
            Ok((None, values))
        }
        0 => Ok((None, &[])),
        _ => Err(Malformed("an unknown address family")),
    }
}

#[derive(Default)]
struct Values {
    common_name: Option<String>,
    checksum: Option<u32>,
    /// Where it stands, from the end of the head.
    checksum_at: usize,
}

/// Type, length and value, one after the other.
struct Tlvs<'a> {
    rest: &'a [u8],
    broken: bool,
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [kind, high, low, rest @ ..] = self.rest else {
            self.broken |= !self.rest.is_empty();
            return None;
        };
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((value, rest)) = rest.split_at_checked(len) else {
            self.broken = true;
            return None;
        };
        self.rest = rest;
        Some((*kind, value))
    }
}

fn v2_values(bytes: &[u8]) -> Result<Values, ProxyError> {
    const CRC32C: u8 = 0x03;
    const SSL: u8 = 0x20;
    const SSL_CN: u8 = 0x22;
    /// The client showed a certificate on this connection, or on the session it resumed.
    const SHOWED_CERTIFICATE: u8 = 0x02 | 0x04;
    const BROKEN: ProxyError = Malformed("a value is cut off");
    let mut values = Values::default();
    let mut tlvs = Tlvs {
        rest: bytes,
        broken: false,
    };
    while let Some((kind, value)) = tlvs.next() {
        match kind {
            CRC32C => {
                let checksum = value.try_into().map_err(|_| Malformed("an odd checksum"))?;
                values.checksum = Some(u32::from_be_bytes(checksum));
                // Counted from the end, which the caller knows.
                values.checksum_at = tlvs.rest.len() + 4;
            }
            SSL => {
                let [client, v0, v1, v2, v3, inner @ ..] = value else {
                    return Err(BROKEN);
                };
                let verified = u32::from_be_bytes([*v0, *v1, *v2, *v3]) == 0;
                let mut inner = Tlvs {
                    rest: inner,
                    broken: false,
                };
                for (kind, value) in inner.by_ref() {
                    if kind == SSL_CN
                        && verified
                        && client & SHOWED_CERTIFICATE != 0
                        && value.len() <= COMMON_NAME_BYTES_MAX
                    {
                        values.common_name = std::str::from_utf8(value).ok().map(str::to_owned);
                    }
                }
                if inner.broken {
                    return Err(BROKEN);
                }
            }
            _ => {}
        }
    }
    if tlvs.broken {
        return Err(BROKEN);
    }
    Ok(values)
}

/// CRC-32C of the header in which the checksum, `from_end` bytes before the end, is zero.
fn checksum_of(header: &[u8], from_end: usize) -> u32 {
    let at = header.len().saturating_sub(from_end);
    let mut crc = u32::MAX;
    for (position, byte) in header.iter().enumerate() {
        let zeroed = (at..at + 4).contains(&position);
        crc ^= u32::from(if zeroed { 0 } else { *byte });
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82F6_3B78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(bytes: &[u8]) -> ProxyHeader {
        // However it is cut, it asks for no byte too many and comes to the same.
        let mut have = 0;
        loop {
            match ProxyHeader::parse(&bytes[..have]) {
                Ok(ProxyParse::Incomplete(missing)) => {
                    assert!(missing > 0 && have + missing <= bytes.len(), "{have}");
                    have += missing;
                }
                Ok(ProxyParse::Complete(header, len)) => {
                    assert_eq!(len, bytes.len());
                    return header;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE_V2.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn version_1() {
        let check = |line: &str, source: Option<&str>| {
            let header = complete(format!("{line}\r\n").as_bytes());
            assert_eq!(header.source, source.map(|s| s.parse().expect(s)), "{line}");
        };
        check(
            "PROXY TCP4 192.0.2.1 10.0.0.1 56324 443",
            Some("192.0.2.1:56324"),
        );
        check("PROXY TCP6 2001:db8::1 ::1 1 2", Some("[2001:db8::1]:1"));
        check("PROXY UNKNOWN", None);
        check("PROXY UNKNOWN ffff::1 whatever", None);
    }

    #[test]
    fn version_1_malformed() {
        for line in [
            "PROXY TCP4 192.0.2.1 10.0.0.1 56324",
            "PROXY TCP4 192.0.2.1 10.0.0.1 56324 443 1",
            "PROXY TCP4 192.0.2.1 10.0.0.1 +1 443",
            "PROXY TCP4 192.0.2.1 10.0.0.1 65536 443",
            "PROXY TCP4 ::1 ::1 1 2",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 2",
            "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2",
            "PROXY TCP4 1.2.3.4\t1.2.3.4 1 2",
            "PROXY \u{1F600}",
        ] {
            let error = ProxyHeader::parse(format!("{line}\r\n").as_bytes());
            assert!(matches!(error, Err(Malformed(_))), "{line}: {error:?}");
        }
        let long = format!("PROXY {}", "x".repeat(200));
        assert!(matches!(
            ProxyHeader::parse(long.as_bytes()),
            Err(Malformed(_))
        ));
    }

    #[test]
    fn version_2() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0xDC, 0x04, 1, 0xBB];
        let header = complete(&v2(1, 0x11, &v4));
        assert_eq!(
            header.source,
            Some("192.0.2.1:56324".parse().expect("fine"))
        );
        assert_eq!(complete(&v2(0, 0x11, &v4)).source, None, "LOCAL");
        assert_eq!(complete(&v2(0, 0, b"")).source, None);
        assert_eq!(complete(&v2(1, 0, b"anything")).source, None, "UNSPEC");
        let mut v6 = [0; 36];
        v6[15] = 1;
        v6[33] = 9;
        let header = complete(&v2(1, 0x21, &v6));
        assert_eq!(header.source, Some("[::1]:9".parse().expect("fine")));
        assert_eq!(complete(&v2(1, 0x31, &[0; 216])).source, None);
    }

    #[test]
    fn the_common_name_counts_when_it_was_verified() {
        let with = |client: u8, verify: u8| {
            let mut rest = vec![0; 12];
            let inner = [&[0x21, 0, 3][..], b"1.3", &[0x22, 0, 3], b"ada"].concat();
            rest.extend([0x20, 0, 5 + inner.len() as u8, client, 0, 0, 0, verify]);
            rest.extend(inner);
            complete(&v2(1, 0x11, &rest)).common_name
        };
        assert_eq!(with(0x07, 0).as_deref(), Some("ada"));
        assert_eq!(with(0x05, 0).as_deref(), Some("ada"), "resumed");
        assert_eq!(with(0x01, 0), None, "no certificate");
        assert_eq!(with(0x07, 1), None, "not verified");
    }

    #[test]
    fn the_checksum_is_checked() {
        // The check value of CRC-32C.
        assert_eq!(checksum_of(b"123456789", 0), 0xE306_9283);
        let mut rest = vec![0; 12];
        rest.extend([0x03, 0, 4, 0, 0, 0, 0, 0x04, 0, 1, 0]);
        let mut bytes = v2(1, 0x11, &rest);
        let at = V2_HEAD_BYTES + 15;
        let from_end = bytes.len() - at;
        let checksum = checksum_of(&bytes, from_end);
        bytes[at..at + 4].copy_from_slice(&checksum.to_be_bytes());
        complete(&bytes);
        bytes[at] ^= 1;
        let error = ProxyHeader::parse(&bytes);
        assert_eq!(error, Err(Malformed("the checksum does not fit")));
    }

    #[test]
    fn version_2_malformed() {
        let mut wrong = v2(1, 0x11, &[0; 12]);
        wrong[12] = 0x11;
        let cases = [
            wrong,
            v2(2, 0x11, &[0; 12]),
            v2(1, 0x11, &[0; 11]),
            v2(1, 0x21, &[0; 35]),
            v2(1, 0x41, &[0; 36]),
            v2(1, 0x11, &[&[0; 12][..], &[4, 0]].concat()),
            v2(1, 0x11, &[&[0; 12][..], &[4, 0, 9, 1]].concat()),
            v2(1, 0x11, &[&[0; 12][..], &[0x20, 0, 1, 1]].concat()),
            v2(1, 0x11, &[0; 5000]),
        ];
        for bytes in cases {
            let error = ProxyHeader::parse(&bytes);
            assert!(matches!(error, Err(Malformed(_))), "{bytes:?}: {error:?}");
        }
    }

    #[test]
    fn what_is_no_header_is_known_at_once() {
        for bytes in [
            &b"\x10"[..],
            b"GET / HTTP/1.1",
            b"PROXX",
            b"\r\n\r\n\r",
            b"\x16\x03\x01",
        ] {
            assert_eq!(ProxyHeader::parse(bytes), Err(ProxyError::Missing));
        }
        assert_eq!(ProxyHeader::parse(b""), Ok(ProxyParse::Incomplete(15)));
    }
}
