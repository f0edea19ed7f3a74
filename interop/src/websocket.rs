//! A WebSocket client as small as RFC 6455 allows, which can also do what the RFC forbids.
//!
//! It frames, masks and splits by hand; MQTT goes in and out as bytes. Deliberately absent: any checks on what it sends.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Version;
use crate::broker::Broker;
use crate::client::WAIT;
use crate::wire::{Packet, split};

/// Opcodes of frames.
pub mod opcode {
    /// A continuation of the message before.
    pub const CONTINUATION: u8 = 0;
    /// Text.
    pub const TEXT: u8 = 1;
    /// Binary.
    pub const BINARY: u8 = 2;
    /// Close.
    pub const CLOSE: u8 = 8;
    /// Ping.
    pub const PING: u8 = 9;
    /// Pong.
    pub const PONG: u8 = 10;
}

/// A frame from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whether it ends its message.
    pub fin: bool,
    /// What it is.
    pub opcode: u8,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// A WebSocket connection.
#[derive(Debug)]
pub struct WebSocket {
    stream: TcpStream,
    buffer: Vec<u8>,
    mqtt: Vec<u8>,
    /// The status line and headers of the answer to the upgrade request.
    pub response: String,
}

impl WebSocket {
    /// Sends an upgrade request that offers `subprotocols` and reads the answer, whatever it says; `None` where the broker
    /// under test has no WebSocket listener.
    pub async fn open(broker: &Broker, subprotocols: Option<&str>) -> Option<Self> {
        let address = broker.websocket()?;
        let stream = TcpStream::connect(address)
            .await
            .expect("the broker listens for WebSocket");
        let mut websocket = Self {
            stream,
            buffer: Vec::new(),
            mqtt: Vec::new(),
            response: String::new(),
        };
        let offer = subprotocols
            .map(|list| format!("Sec-WebSocket-Protocol: {list}\r\n"))
            .unwrap_or_default();
        let request = format!(
            "GET /mqtt HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
        );
        websocket.send_raw(request.as_bytes()).await;
        loop {
            let end = websocket
                .buffer
                .windows(4)
                .position(|window| window == b"\r\n\r\n");
            if let Some(end) = end {
                let rest = websocket.buffer.split_off(end + 4);
                let head = std::mem::replace(&mut websocket.buffer, rest);
                websocket.response = String::from_utf8_lossy(&head).into_owned();
                return Some(websocket);
            }
            if !websocket.fill().await {
                websocket.response = String::from_utf8_lossy(&websocket.buffer).into_owned();
                return Some(websocket);
            }
        }
    }

    /// The value of a header in the answer to the upgrade request.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.trim()
                .eq_ignore_ascii_case(name)
                .then_some(value.trim())
        })
    }

    /// The status code of the answer to the upgrade request.
    pub fn status(&self) -> u16 {
        self.response
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0)
    }

    /// Sends bytes as they are.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let _ = timeout(WAIT, self.stream.write_all(bytes))
            .await
            .expect("the broker reads");
    }

    /// Sends a masked frame.
    pub async fn send_frame(&mut self, fin: bool, opcode: u8, payload: &[u8]) {
        let bytes = masked(fin, opcode, payload);
        self.send_raw(&bytes).await;
    }

    /// Sends MQTT bytes in one binary frame.
    pub async fn send(&mut self, mqtt: &[u8]) {
        self.send_frame(true, opcode::BINARY, mqtt).await;
    }

    async fn fill(&mut self) -> bool {
        let read = timeout(WAIT, self.stream.read_buf(&mut self.buffer)).await;
        matches!(read.expect("nothing came within 5 s"), Ok(1..))
    }

    /// The next frame, `None` at the end of the connection.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, used)) = parse(&self.buffer) {
                self.buffer.drain(..used);
                return Some(frame);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The next MQTT packet, wherever the frame boundaries are.
    pub async fn packet(&mut self, version: Version) -> Packet {
        loop {
            if let Some(span) = split(&self.mqtt).expect("a packet") {
                let rest = self.mqtt.split_off(span.end);
                let whole = std::mem::replace(&mut self.mqtt, rest);
                return Packet::read(span.first, &whole[span.header..], version)
                    .unwrap_or_else(|error| panic!("{error}"));
            }
            let frame = self.frame().await.expect("the connection is open");
            match frame.opcode {
                opcode::BINARY | opcode::CONTINUATION => self.mqtt.extend(frame.payload),
                opcode::PING | opcode::PONG => {}
                other => panic!("MQTT-6.0.0-1: the server sent a frame with opcode {other}"),
            }
        }
    }

    /// Expects the end of the connection; MQTT packets and a close frame may come before.
    pub async fn expect_closed(&mut self) {
        while let Some(frame) = self.frame().await {
            assert_ne!(
                frame.opcode,
                opcode::TEXT,
                "MQTT-6.0.0-1: a text frame from the server"
            );
        }
    }
}

/// A masked frame as bytes.
pub fn masked(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x11, 0xA2, 0x33, 0xC4];
    let mut bytes = vec![u8::from(fin) << 7 | opcode];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=65_535 => {
            bytes.push(0x80 | 0x7E);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 0x7F);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

/// A whole frame at the head of `input` and the bytes it takes.
fn parse(input: &[u8]) -> Option<(Frame, usize)> {
    let (&first, &second) = (input.first()?, input.get(1)?);
    assert_eq!(second & 0x80, 0, "a server does not mask");
    let (length, header) = match second {
        126 => (
            usize::from(u16::from_be_bytes([*input.get(2)?, *input.get(3)?])),
            4,
        ),
        127 => {
            let bytes = input.get(2..10)?;
            (
                bytes
                    .iter()
                    .fold(0, |value, byte| value << 8 | usize::from(*byte)),
                10,
            )
        }
        short => (usize::from(short), 2),
    };
    let payload = input.get(header..header + length)?.to_vec();
    Some((
        Frame {
            fin: first & 0x80 != 0,
            opcode: first & 0x0F,
            payload,
        },
        header + length,
    ))
}
