//! WebSocket framing as a plain value: bytes in, payload bytes out, in place.

use std::fmt;

/// The longest header: two bytes, an eight-byte length, a four-byte mask.
pub(super) const HEAD_LEN_MAX: usize = 14;
/// The largest payload of a ping, pong or close [RFC 6455, 5.5].
const CONTROL_LEN_MAX: u64 = 125;

/// Values of the short length that announce a length of two and of eight bytes.
const LEN_16: u8 = 0x7E;
const LEN_64: u8 = 0x7F;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
pub(super) const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xA;

/// A rule of RFC 6455 that the peer broke, or a limit that it passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A close frame with a payload of one byte, or a code that must not be sent.
    #[error("close frame with an invalid code")]
    BadCloseCode,
    /// A continuation frame without a message to continue.
    #[error("continuation frame without a beginning")]
    Continuation,
    /// A ping, pong or close in several frames.
    #[error("fragmented control frame")]
    ControlFragmented,
    /// A ping, pong or close with more than 125 bytes.
    #[error("control frame longer than 125 bytes")]
    ControlTooLong,
    /// The server masked a frame.
    #[error("masked frame from the server")]
    Masked,
    /// A new message inside a fragmented one.
    #[error("new message before the last one ended")]
    MessageInterrupted,
    /// An opcode that nobody has defined.
    #[error("reserved opcode {0:#x}")]
    Opcode(u8),
    /// A reserved bit, although no extension was agreed on.
    #[error("reserved bit set without an extension")]
    ReservedBit,
    /// A text message: the stream consists of binary ones.
    #[error("text frame: only binary frames are accepted")]
    Text,
    /// A frame above the limit for one frame.
    #[error("frame of {len} bytes, at most {max} are accepted")]
    TooLarge {
        /// As announced by the peer.
        len: u64,
        /// The limit.
        max: u64,
    },
    /// The client did not mask a frame.
    #[error("unmasked frame from the client")]
    Unmasked,
}

impl FrameError {
    /// The status code for the close frame that answers it (RFC 6455, 7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Self::Text => 1003,
            Self::TooLarge { .. } => 1009,
            _ => 1002,
        }
    }
}

/// XORs `bytes` with `mask`, of which `offset` bytes were used up before (modulo 4).
pub(super) fn apply_mask(bytes: &mut [u8], mask: [u8; 4], offset: u8) {
    let mut mask = mask;
    mask.rotate_left(usize::from(offset % 4));
    let word = u32::from_ne_bytes(mask);
    let wide = u64::from(word) << 32 | u64::from(word);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// A frame header as it goes out: always a whole message, masked where `mask` is given.
#[derive(Clone, Copy)]
pub(super) struct OutHead {
    bytes: [u8; HEAD_LEN_MAX],
    len: u8,
}

impl OutHead {
    pub(super) fn new(opcode: u8, payload_len: u64, mask: Option<[u8; 4]>) -> Self {
        let mut head = Self {
            bytes: [0; HEAD_LEN_MAX],
            len: 0,
        };
        let masked = if mask.is_some() { 0x80 } else { 0 };
        head.put(&[0x80 | opcode]);
        if payload_len <= CONTROL_LEN_MAX {
            head.put(&[masked | payload_len as u8]);
        } else if let Ok(len) = u16::try_from(payload_len) {
            head.put(&[masked | LEN_16]);
            head.put(&len.to_be_bytes());
        } else {
            head.put(&[masked | LEN_64]);
            head.put(&payload_len.to_be_bytes());
        }
        if let Some(mask) = mask {
            head.put(&mask);
        }
        head
    }

    fn put(&mut self, bytes: &[u8]) {
        let at = usize::from(self.len);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// A whole control frame.
pub(super) fn control_frame(opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let head = OutHead::new(opcode, payload.len() as u64, mask);
    let head = head.as_bytes();
    let mut frame = Vec::with_capacity(head.len() + payload.len());
    frame.extend_from_slice(head);
    frame.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut frame[head.len()..], mask, 0);
    }
    frame
}

/// What the peer's close frame said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// Without a code.
    Plain,
    /// With a code.
    Code(u16),
}

/// The reading side of one connection.
///
/// ```text
///            +--------------- end of frame ----------------+
///            v                                             |
///   collecting a header --- data -----> payload, passed on +
///            |          --- ping ------> payload, kept ----+---> `take_ping`
///            |          --- pong ------> payload, dropped -+
///            |          --- close -----> payload, kept ----> `Ended::Closed`
///            +--------- broken rule -----------------------> `Ended::Failed`
/// ```
pub(super) struct FrameReader {
    /// Frames must be masked (we are the server) or must not be (we are the client).
    expect_masked: bool,
    frame_bytes_max: u64,
    /// The header so far; `head_len` is 0 inside a payload.
    head: [u8; HEAD_LEN_MAX],
    head_len: u8,
    in_payload: bool,
    /// Inside a message of several frames.
    in_message: bool,
    opcode: u8,
    mask: [u8; 4],
    /// Payload bytes of this frame seen so far, modulo 4.
    mask_offset: u8,
    /// Payload bytes of this frame still to come.
    remaining: u64,
    /// Payload of the ping or close under way.
    control: Vec<u8>,
    /// The latest ping that nobody has answered yet; RFC 6455, 5.5.3 allows to answer that only.
    ping: Option<Vec<u8>>,
    ended: Option<Ended>,
}

/// Nothing more is read after this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The peer's close frame came.
    Closed(Closed),
    /// The peer broke a rule.
    Failed(FrameError),
}

impl FrameReader {
    pub(super) fn new(expect_masked: bool, frame_bytes_max: u64) -> Self {
        Self {
            expect_masked,
            frame_bytes_max,
            head: [0; HEAD_LEN_MAX],
            head_len: 0,
            in_payload: false,
            in_message: false,
            opcode: 0,
            mask: [0; 4],
            mask_offset: 0,
            remaining: 0,
            control: Vec::new(),
            ping: None,
            ended: None,
        }
    }

    /// Reads `chunk`, moves the payload bytes in it to its front, and returns how many they are.
    /// The rest of `chunk` is garbage afterwards. Everything behind the end is ignored.
    pub(super) fn process(&mut self, chunk: &mut [u8]) -> usize {
        let (mut at, mut out) = (0, 0);
        while at < chunk.len() && self.ended.is_none() {
            if !self.in_payload {
                at += self.collect_head(&chunk[at..]);
                continue;
            }
            let left = chunk.len() - at;
            let n = usize::try_from(self.remaining).map_or(left, |remaining| remaining.min(left));
            let bytes = &mut chunk[at..at + n];
            if self.expect_masked {
                apply_mask(bytes, self.mask, self.mask_offset);
            }
            match self.opcode {
                BINARY | CONTINUATION => {
                    chunk.copy_within(at..at + n, out);
                    out += n;
                }
                PING | CLOSE => self.control.extend_from_slice(bytes),
                _ => {}
            }
            at += n;
            #[cfg(not(planted_bug))]
            {
                self.mask_offset = (self.mask_offset + (n % 4) as u8) % 4;
            }
            self.remaining -= n as u64;
            if self.remaining == 0 {
                self.end_frame();
            }
        }
        out
    }

    /// Whether the stream may not end here: inside a frame or a fragmented message.
    pub(super) fn mid_message(&self) -> bool {
        self.in_payload || self.in_message || self.head_len > 0
    }

    pub(super) fn take_ping(&mut self) -> Option<Vec<u8>> {
        self.ping.take()
    }

    pub(super) fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Takes header bytes from `bytes`, returns how many.
    fn collect_head(&mut self, bytes: &[u8]) -> usize {
        let have = usize::from(self.head_len);
        let want = if have < 2 { 2 } else { self.head_len_wanted() };
        let n = bytes.len().min(want - have);
        self.head[have..have + n].copy_from_slice(&bytes[..n]);
        self.head_len += n as u8;
        if usize::from(self.head_len) == want {
            let result = if have < 2 {
                self.check_first_two()
            } else {
                Ok(())
            };
            let result = result.and_then(|()| {
                if usize::from(self.head_len) == self.head_len_wanted() {
                    self.begin_payload()
                } else {
                    Ok(())
                }
            });
            if let Err(error) = result {
                self.ended = Some(Ended::Failed(error));
            }
        }
        n
    }

    fn head_len_wanted(&self) -> usize {
        let extended = match self.head[1] & 0x7F {
            LEN_16 => 2,
            LEN_64 => 8,
            _ => 0,
        };
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        2 + extended + mask
    }

    /// What the first two bytes tell about the rules.
    fn check_first_two(&mut self) -> Result<(), FrameError> {
        let [first, second, ..] = self.head;
        let last = first & 0x80 != 0;
        let opcode = first & 0x0F;
        if first & 0x70 != 0 {
            return Err(FrameError::ReservedBit);
        }
        match opcode {
            CONTINUATION if !self.in_message => return Err(FrameError::Continuation),
            CONTINUATION => self.in_message = !last,
            TEXT => return Err(FrameError::Text),
            BINARY if self.in_message => return Err(FrameError::MessageInterrupted),
            BINARY => self.in_message = !last,
            CLOSE | PING | PONG if !last => return Err(FrameError::ControlFragmented),
            CLOSE | PING | PONG if u64::from(second & 0x7F) > CONTROL_LEN_MAX => {
                return Err(FrameError::ControlTooLong);
            }
            CLOSE | PING | PONG => {}
            other => return Err(FrameError::Opcode(other)),
        }
        match (second & 0x80 != 0, self.expect_masked) {
            (false, true) => return Err(FrameError::Unmasked),
            (true, false) => return Err(FrameError::Masked),
            _ => {}
        }
        self.opcode = opcode;
        Ok(())
    }

    /// The header is complete.
    fn begin_payload(&mut self) -> Result<(), FrameError> {
        let len_end = self.head_len_wanted() - if self.expect_masked { 4 } else { 0 };
        // Longer encodings of the length than necessary are forbidden but harmless: accepted.
        let len = match self.head[1] & 0x7F {
            short if len_end == 2 => u64::from(short),
            _ => self.head[2..len_end]
                .iter()
                .fold(0, |len, byte| len << 8 | u64::from(*byte)),
        };
        if len > self.frame_bytes_max && matches!(self.opcode, BINARY | CONTINUATION) {
            return Err(FrameError::TooLarge {
                len,
                max: self.frame_bytes_max,
            });
        }
        if self.expect_masked {
            self.mask.copy_from_slice(&self.head[len_end..len_end + 4]);
        }
        self.mask_offset = 0;
        self.remaining = len;
        self.head_len = 0;
        self.in_payload = true;
        if len == 0 {
            self.end_frame();
        }
        Ok(())
    }

    fn end_frame(&mut self) {
        self.in_payload = false;
        match self.opcode {
            PING => self.ping = Some(std::mem::take(&mut self.control)),
            CLOSE => {
                let closed = close_payload(&std::mem::take(&mut self.control));
                self.ended = Some(match closed {
                    Ok(closed) => Ended::Closed(closed),
                    Err(error) => Ended::Failed(error),
                });
            }
            _ => {}
        }
    }
}

impl fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameReader")
            .field("remaining", &self.remaining)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// Reads the payload of a close frame; the reason text behind the code is not used.
fn close_payload(payload: &[u8]) -> Result<Closed, FrameError> {
    match *payload {
        [] => Ok(Closed::Plain),
        [_] => Err(FrameError::BadCloseCode),
        [high, low, ..] => match u16::from_be_bytes([high, low]) {
            code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => Ok(Closed::Code(code)),
            _ => Err(FrameError::BadCloseCode),
        },
    }
}
