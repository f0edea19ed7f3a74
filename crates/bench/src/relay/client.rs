//! One client of the null relay.

use std::io::{self, Read as _, Write as _};

use martlet_codec::{ConnAck, Packet, Props, ReasonCode, ReasonCodes, SubAck, Version};
use mio::net::TcpStream;

/// What a client turned out to be.
pub(super) enum Role {
    /// It has not published.
    Other,
    /// It has published once, and these get everything from it.
    Publisher {
        /// Seats of the receivers.
        receivers: Vec<usize>,
        /// One after the other instead of all.
        in_turns: bool,
        /// Who was last.
        turn: usize,
    },
}

pub(super) struct Client {
    socket: TcpStream,
    pub(super) version: Version,
    pub(super) role: Role,
    pub(super) filters: Vec<String>,
    /// The beginning of a packet.
    pub(super) partial: Vec<u8>,
    /// Publishers that wait until this one has taken more.
    pub(super) stopped: Vec<usize>,
    out: Vec<u8>,
    out_at: usize,
    blocked: bool,
}

impl Client {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            version: Version::V311,
            role: Role::Other,
            filters: Vec::new(),
            partial: Vec::new(),
            stopped: Vec::new(),
            out: Vec::new(),
            out_at: 0,
            blocked: false,
        }
    }

    pub(super) fn read(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        self.socket.read(scratch)
    }

    /// Bytes that the socket has not taken.
    pub(super) fn waiting(&self) -> usize {
        self.out.len() - self.out_at
    }

    /// Appends an answer, which leaves at the end of the batch.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Writes packets straight from where they were read, and keeps what the socket does not take.
    pub(super) fn pass(&mut self, packets: &[u8]) {
        let mut written = 0;
        if self.waiting() == 0 && !self.blocked {
            match self.socket.write(packets) {
                Ok(count) => written = count,
                // A socket that is gone shows when it is read.
                Err(_) => self.blocked = true,
            }
            self.blocked |= written < packets.len();
        }
        self.out.extend_from_slice(&packets[written..]);
    }

    pub(super) fn unblock(&mut self) {
        self.blocked = false;
        self.flush();
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self) {
        while !self.blocked && self.waiting() > 0 {
            match self.socket.write(&self.out[self.out_at..]) {
                Ok(written) => self.out_at += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.blocked = true,
            }
        }
        if self.waiting() == 0 {
            self.out.clear();
            self.out_at = 0;
        }
    }

    /// CONNECT, SUBSCRIBE, PINGREQ, DISCONNECT; `None` ends the connection.
    pub(super) fn answer(&mut self, packet: &Packet<'_>) -> Option<()> {
        match packet {
            Packet::Connect(connect) => {
                self.version = connect.version;
                self.send(Packet::ConnAck(ConnAck {
                    session_present: false,
                    reason: ReasonCode::Success,
                    props: Props::EMPTY,
                }))
            }
            Packet::Subscribe(subscribe) => {
                let mut codes = Vec::with_capacity(subscribe.filters.len());
                for (filter, options) in subscribe.filters {
                    self.filters.push(filter.to_owned());
                    codes.push(options.qos as u8);
                }
                self.send(Packet::SubAck(SubAck {
                    id: subscribe.id,
                    props: Props::EMPTY,
                    codes: ReasonCodes::new(&codes)?,
                }))
            }
            Packet::PingReq => self.send(Packet::PingResp),
            _ => None,
        }
    }

    fn send(&mut self, packet: Packet<'_>) -> Option<()> {
        packet.encode(self.version, &mut self.out).ok()
    }

    /// Before the socket is closed.
    pub(super) fn goodbye(&mut self, registry: &mio::Registry) {
        // It is closed right after, which ends the watch as well.
        let _ = registry.deregister(&mut self.socket);
    }
}

/// Whether a filter is that of a shared subscription, and what it matches.
pub(super) fn shared(filter: &str) -> (bool, &str) {
    match filter
        .strip_prefix("$share/")
        .and_then(|rest| rest.split_once('/'))
    {
        Some((_, filter)) => (true, filter),
        None => (false, filter),
    }
}

/// Whether `filter` matches `topic` (section 4.7), level by level.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        for (filter, topic, wanted) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/#", "a/b/c", true),
            ("+/b", "a/b", true),
        ] {
            assert_eq!(matches(filter, topic), wanted, "{filter} {topic}");
        }
        assert_eq!(shared("$share/g/a/+"), (true, "a/+"));
        assert_eq!(shared("a/+"), (false, "a/+"));
    }
}
