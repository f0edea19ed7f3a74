//! The byte stream of a client: TCP as it is, with TLS, WebSocket, or one in the other around the packets; nonblocking, with the calls that a
//! connection makes.
//!
//! Handshakes are waited for: they are no part of any measurement but that of connecting, which is told to be so.
//! WebSocket frames carry the masking key zero, which the protocol allows (RFC 6455, 5.3, asks for an unpredictable
//! one against hostile intermediaries, of which there are none here), so that masking costs the generator nothing.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::failure::Failure;

/// How long one connection may take, handshakes included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Raw bytes that are read from a WebSocket at a time.
const RAW_BYTES: usize = 64 << 10;

/// A WebSocket answer longer than this is refused.
const ANSWER_MAX: usize = 8 << 10;

/// What is around the packets: nothing unless said otherwise, WebSocket inside TLS if both.
#[derive(Clone, Default)]
pub struct Wrapping {
    /// Who is trusted, and the name that the broker's certificate must have.
    pub(crate) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// The path of the WebSocket request.
    pub(crate) websocket: Option<String>,
    /// Whether TLS is that of QUIC.
    pub(crate) quic: bool,
}

impl Wrapping {
    /// The same with WebSocket inside; the request asks for `path`.
    #[must_use]
    pub fn with_websocket(mut self, path: &str) -> Self {
        self.websocket = Some(path.to_owned());
        self
    }

    /// The same over QUIC, for which there must be TLS.
    #[must_use]
    pub fn over_quic(mut self) -> Self {
        self.quic = true;
        self
    }

    /// The same with a whole TLS handshake for each connection; else those after the first resume its session.
    #[must_use]
    pub fn with_full_handshakes(mut self) -> Self {
        if let Some((config, _)) = &mut self.tls {
            Arc::make_mut(config).resumption = Resumption::disabled();
        }
        self
    }

    /// What it is called in a URL.
    pub const fn scheme(&self) -> &'static str {
        match (&self.tls, &self.websocket) {
            _ if self.quic => "quic",
            (None, None) => "tcp",
            (Some(_), None) => "tls",
            (None, Some(_)) => "ws",
            (Some(_), Some(_)) => "wss",
        }
    }
}

impl std::fmt::Debug for Wrapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.scheme())
    }
}

/// A connected stream.
pub(crate) struct Socket {
    stream: TcpStream,
    layer: Layer,
}

enum Layer {
    Plain,
    Tls(Box<ClientConnection>),
    Ws(Box<Frames>),
    Wss(Box<(ClientConnection, Frames)>),
}

/// What is between two system calls on a WebSocket.
#[derive(Default)]
struct Frames {
    /// Raw bytes that were read, and how many of them have been looked at.
    raw: Vec<u8>,
    at: usize,
    /// Payload bytes of the frame that is being read; those of a control frame are passed over.
    incoming: usize,
    passed_over: bool,
    /// The head of the frame that is being written, as far as it is unwritten, and payload bytes still to follow.
    head: Vec<u8>,
    outgoing: usize,
}

impl Socket {
    /// Connects and shakes hands.
    pub(crate) fn connect(address: SocketAddr, wrapping: &Wrapping) -> Result<Self, Failure> {
        let failed =
            |error: io::Error| Failure::Broker(format!("cannot connect to {address}: {error}"));
        let mut stream =
            std::net::TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream
            .set_read_timeout(Some(CONNECT_TIMEOUT))
            .map_err(failed)?;
        let mut tls = None;
        if let Some((config, name)) = &wrapping.tls {
            let mut client = ClientConnection::new(Arc::clone(config), name.clone())
                .map_err(|error| failed(io::Error::other(error)))?;
            while client.is_handshaking() {
                client.complete_io(&mut stream).map_err(failed)?;
            }
            tls = Some(client);
        }
        let mut frames = None;
        if let Some(path) = &wrapping.websocket {
            let raw = match &mut tls {
                Some(tls) => upgrade(&mut rustls::Stream::new(tls, &mut stream), address, path),
                None => upgrade(&mut stream, address, path),
            };
            frames = Some(Frames {
                raw: raw.map_err(failed)?,
                ..Frames::default()
            });
        }
        let layer = match (tls, frames) {
            (None, None) => Layer::Plain,
            (Some(tls), None) => Layer::Tls(Box::new(tls)),
            (None, Some(frames)) => Layer::Ws(Box::new(frames)),
            (Some(tls), Some(frames)) => Layer::Wss(Box::new((tls, frames))),
        };
        stream.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            stream: TcpStream::from_std(stream),
            layer,
        })
    }

    /// Has the loop told when this can be read or written.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(
            &mut self.stream,
            token,
            Interest::READABLE | Interest::WRITABLE,
        )
    }

    /// Whether a read that did not fill the buffer leaves nothing behind.
    pub(crate) fn tells_all(&self) -> bool {
        matches!(self.layer, Layer::Plain)
    }

    /// Reads packets.
    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.layer {
            Layer::Plain => self.stream.read(buffer),
            Layer::Tls(tls) => Records(tls, &mut self.stream).read(buffer),
            Layer::Ws(frames) => frames.read(&mut self.stream, buffer),
            Layer::Wss(both) => {
                let (tls, frames) = &mut **both;
                frames.read(&mut Records(tls, &mut self.stream), buffer)
            }
        }
    }

    /// Writes packets of two buffers, the first one first.
    #[inline]
    pub(crate) fn write(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        match &mut self.layer {
            Layer::Plain if second.is_empty() => self.stream.write(first),
            Layer::Plain => self
                .stream
                .write_vectored(&[IoSlice::new(first), IoSlice::new(second)]),
            Layer::Tls(tls) => Records(tls, &mut self.stream).write(first),
            Layer::Ws(frames) => frames.write(&mut self.stream, first),
            Layer::Wss(both) => {
                let (tls, frames) = &mut **both;
                frames.write(&mut Records(tls, &mut self.stream), first)
            }
        }
    }

    /// Writes what a layer kept; to be called when the stream takes bytes again.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Layer::Plain | Layer::Ws(_) => Ok(()),
            Layer::Tls(tls) => Records(tls, &mut self.stream).flush(),
            Layer::Wss(both) => Records(&mut both.0, &mut self.stream).flush(),
        }
    }
}

/// A stream inside TLS.
struct Records<'a>(&'a mut ClientConnection, &'a mut TcpStream);

impl Read for Records<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self(tls, stream) = self;
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            if tls.read_tls(stream)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

impl Write for Records<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // What is kept goes first, so that no more than what one call took is ever kept.
        self.flush()?;
        let written = self.0.writer().write_vectored(slices)?;
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(written),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.0.wants_write() {
            self.0.write_tls(self.1)?;
        }
        Ok(())
    }
}

/// The request of RFC 6455, and what came behind the answer.
fn upgrade(stream: &mut (impl Read + Write), host: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    // The key only has to have the right form; the answer to it is not looked at, because nobody between can cache it.
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: bWFydGxldC1iZW5jaC1rZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1_024];
    loop {
        let got = stream.read(&mut buffer)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&buffer[..got]);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            if !answer.starts_with(b"HTTP/1.1 101") {
                let line = String::from_utf8_lossy(&answer);
                let line = line.lines().next().unwrap_or_default();
                return Err(io::Error::other(format!("no WebSocket there: {line}")));
            }
            return Ok(answer.split_off(end + 4));
        }
        if answer.len() > ANSWER_MAX {
            return Err(io::Error::other("the answer has no end"));
        }
    }
}

impl Frames {
    fn read(&mut self, stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            let raw = &self.raw[self.at..];
            if self.incoming > 0 && !raw.is_empty() {
                let mut count = self.incoming.min(raw.len());
                if !self.passed_over {
                    count = count.min(buffer.len() - filled);
                    buffer[filled..filled + count].copy_from_slice(&raw[..count]);
                    filled += count;
                }
                self.at += count;
                self.incoming -= count;
                if filled == buffer.len() {
                    return Ok(filled);
                }
                continue;
            }
            if self.incoming == 0
                && let Some((head, payload, control)) = frame_head(raw)?
            {
                self.at += head;
                self.incoming = payload;
                self.passed_over = control;
                continue;
            }
            if filled > 0 {
                return Ok(filled);
            }
            // The beginning of a head is kept.
            self.raw.drain(..self.at);
            self.at = 0;
            let kept = self.raw.len();
            self.raw.resize(kept + RAW_BYTES, 0);
            let got = stream.read(&mut self.raw[kept..]);
            self.raw.truncate(kept + *got.as_ref().unwrap_or(&0));
            if got? == 0 {
                return Ok(0);
            }
        }
    }

    fn write(&mut self, stream: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
        if self.outgoing == 0 {
            put_frame_head(bytes.len(), &mut self.head);
            self.outgoing = bytes.len();
        }
        let bytes = &bytes[..bytes.len().min(self.outgoing)];
        loop {
            let head = self.head.len();
            let written =
                stream.write_vectored(&[IoSlice::new(&self.head), IoSlice::new(bytes)])?;
            self.head.drain(..written.min(head));
            let payload = written.saturating_sub(head);
            self.outgoing -= payload;
            // Nothing of the payload has gone yet: the caller must not take that for the end.
            if payload > 0 || written == 0 {
                return Ok(payload);
            }
        }
    }
}

/// The head of a frame from a server: its length, that of the payload, and whether it is a control frame. `None` while
/// it is not complete.
fn frame_head(raw: &[u8]) -> io::Result<Option<(usize, usize, bool)>> {
    let &[first, second, ..] = raw else {
        return Ok(None);
    };
    if second & 0x80 != 0 {
        return Err(io::Error::other("a server must not mask"));
    }
    let (head, payload) = match second {
        126 => match raw.get(2..4) {
            Some(length) => (
                4,
                length
                    .iter()
                    .fold(0, |value, &byte| value << 8 | usize::from(byte)),
            ),
            None => return Ok(None),
        },
        127 => match raw.get(2..10) {
            Some(length) => (
                10,
                length
                    .iter()
                    .fold(0, |value, &byte| value << 8 | usize::from(byte)),
            ),
            None => return Ok(None),
        },
        short => (2, usize::from(short)),
    };
    Ok(Some((head, payload, first & 0x08 != 0)))
}

/// The head of a masked binary frame; the key is zero.
fn put_frame_head(payload: usize, head: &mut Vec<u8>) {
    head.push(0x82);
    if let Ok(short) = u8::try_from(payload)
        && short < 126
    {
        head.push(0x80 | short);
    } else if let Ok(medium) = u16::try_from(payload) {
        head.push(0x80 | 0x7E);
        head.extend_from_slice(&medium.to_be_bytes());
    } else {
        head.push(0x80 | 0x7F);
        head.extend_from_slice(&(payload as u64).to_be_bytes());
    }
    head.extend_from_slice(&[0; 4]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives what it has in pieces of one size, then nothing.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    /// Takes a few bytes each time.
    struct Narrow(Vec<u8>, usize);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.1.min(bytes.len());
            self.0.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn frames_are_read_in_pieces_of_any_size() {
        let long = vec![7; 70_000];
        let mut wire = vec![0x82, 3, 1, 2, 3, 0x89, 2, 9, 9, 0x82, 126, 1, 0];
        wire.extend([5; 256]);
        wire.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
        wire.extend(&long);
        let wanted = [&[1, 2, 3][..], &[5; 256], &long].concat();
        for piece in [1, 7, 1_000, 100_000] {
            for room in [1, 10, 100_000] {
                let mut frames = Frames::default();
                let mut stream = Pieces(&wire, piece);
                let mut got = Vec::new();
                let mut buffer = vec![0; room];
                while let Ok(count) = frames.read(&mut stream, &mut buffer) {
                    got.extend_from_slice(&buffer[..count]);
                }
                assert_eq!(got, wanted, "{piece} {room}");
            }
        }
    }

    #[test]
    fn frames_are_written_whole_whatever_the_stream_takes() {
        for payload in [1, 125, 126, 65_535, 65_536] {
            for takes in [1, 3, 100_000] {
                let bytes = vec![3; payload];
                let mut frames = Frames::default();
                let mut stream = Narrow(Vec::new(), takes);
                let mut at = 0;
                while at < payload {
                    at += frames
                        .write(&mut stream, &bytes[at..])
                        .expect("it takes some");
                }
                let mut head = Vec::new();
                put_frame_head(payload, &mut head);
                assert_eq!(stream.0, [&head[..], &bytes].concat(), "{payload} {takes}");
            }
        }
    }
}
