//! The null relay: what a broker would cost that did nothing but pass bytes on.
//!
//! It takes clients, notes their filters, looks for the receivers of a publisher's *first* message, and from then on
//! writes whole packets to them as they came. It is the floor under every comparison: read and write system calls and
//! little else. With a [`Fault`] it is the opposite of a good broker, on which the generator proves that it notices.
//!
//! Deliberately absent: everything a broker is for. A publisher that changes its topic is misled.

mod client;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use martlet_codec::{Frame, Packet, Split, split};
use mio::{Events, Interest, Poll, Token};

use crate::failure::Failure;
use client::{Client, Role};

/// What has come on one socket, at most.
const SCRATCH_BYTES: usize = 256 << 10;

/// Packets above this are nothing that a run sends.
const PACKET_MAX: u32 = 64 << 20;

/// A receiver with more waiting bytes than this stops its publishers.
const WAITING_MAX: usize = 1 << 20;

/// Events of one round.
const EVENTS: usize = 1_024;

/// How often the order to stop is looked at.
const TURN: Duration = Duration::from_millis(50);

/// The deed is done to this forwarded PUBLISH, counted from 1.
const FAULT_AT: u64 = 1_000;

const LISTENER: Token = Token(usize::MAX - 1);

/// A deed that a run must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One message is not passed on.
    Drop,
    /// One message is passed on twice.
    Double,
    /// One message is passed on after the one that follows it.
    Swap,
    /// One bit of one payload is turned over.
    Flip,
    /// One message goes to a client it is not for.
    Misdirect,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Drop,
        Self::Double,
        Self::Swap,
        Self::Flip,
        Self::Misdirect,
    ];

    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drops a message",
            Self::Double => "doubles a message",
            Self::Swap => "swaps two messages",
            Self::Flip => "flips a bit",
            Self::Misdirect => "misdirects a message",
        }
    }
}

/// A relay on a thread of its own; it ends when this is dropped.
pub struct Relay {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Relay {
    /// Starts a relay on a free port of this machine.
    ///
    /// # Errors
    /// The port or the thread cannot be had.
    pub fn start(fault: Option<Fault>) -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .map_err(Failure::system("cannot listen on this machine"))?;
        let address = listener
            .local_addr()
            .map_err(Failure::system("cannot listen on this machine"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut server = Server::new(listener, fault, Arc::clone(&stop))?;
        let thread = std::thread::Builder::new()
            .name("relay".to_owned())
            // What ends it is seen by its clients as a closed connection.
            .spawn(move || drop(server.run()))
            .map_err(Failure::system("cannot start a thread"))?;
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been printed by then.
            let _ = thread.join();
        }
    }
}

/// Serves as null relay on `address` until the process ends; says where once it listens.
///
/// # Errors
/// The address cannot be had, or the system fails.
pub fn serve(address: SocketAddr, listening: impl FnOnce(SocketAddr)) -> Result<(), Failure> {
    let listener =
        TcpListener::bind(address).map_err(Failure::system("cannot listen on the address"))?;
    let address = listener
        .local_addr()
        .map_err(Failure::system("cannot listen on the address"))?;
    let mut server = Server::new(listener, None, Arc::new(AtomicBool::new(false)))?;
    listening(address);
    server.run()
}

struct Server {
    poll: Poll,
    listener: mio::net::TcpListener,
    clients: Vec<Option<Client>>,
    /// Seats in `clients` that are free.
    free: Vec<usize>,
    fault: Option<Fault>,
    forwarded: u64,
    /// The packet that [`Fault::Swap`] holds back.
    held: Option<(usize, Vec<u8>)>,
    stop: Arc<AtomicBool>,
}

impl Server {
    fn new(
        listener: TcpListener,
        fault: Option<Fault>,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        listener
            .set_nonblocking(true)
            .map_err(Failure::system("cannot prepare a socket"))?;
        let mut listener = mio::net::TcpListener::from_std(listener);
        let poll = Poll::new().map_err(Failure::system("cannot wait for sockets"))?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)
            .map_err(Failure::system("cannot watch a socket"))?;
        Ok(Self {
            poll,
            listener,
            clients: Vec::new(),
            free: Vec::new(),
            fault,
            forwarded: 0,
            held: None,
            stop,
        })
    }

    fn run(&mut self) -> Result<(), Failure> {
        let mut events = Events::with_capacity(EVENTS);
        let mut scratch = vec![0; SCRATCH_BYTES];
        while !self.stop.load(Ordering::Relaxed) {
            match self.poll.poll(&mut events, Some(TURN)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(Failure::system("cannot wait for sockets")(error));
                }
                _ => {}
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept()?;
                    continue;
                }
                let seat = event.token().0;
                if event.is_writable() {
                    self.unblock(seat, &mut scratch);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.read(seat, &mut scratch);
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<(), Failure> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Nobody there, or no descriptors left: the next event tries again.
                Err(_) => return Ok(()),
            };
            // Delays would show in latencies; a socket that is gone already shows when it is read.
            let _ = socket.set_nodelay(true);
            let seat = self.free.pop().unwrap_or_else(|| {
                self.clients.push(None);
                self.clients.len() - 1
            });
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut socket, Token(seat), interest)
                .map_err(Failure::system("cannot watch a socket"))?;
            self.clients[seat] = Some(Client::new(socket));
        }
    }

    /// The socket of a receiver takes bytes again, and so its publishers go on.
    fn unblock(&mut self, seat: usize, scratch: &mut [u8]) {
        let Some(client) = self.clients.get_mut(seat).and_then(Option::as_mut) else {
            return;
        };
        client.unblock();
        if client.waiting() < WAITING_MAX {
            for publisher in std::mem::take(&mut client.stopped) {
                self.read(publisher, scratch);
            }
        }
    }

    fn read(&mut self, seat: usize, scratch: &mut [u8]) {
        loop {
            if self.must_wait(seat) {
                return;
            }
            let Some(client) = self.clients.get_mut(seat).and_then(Option::as_mut) else {
                return;
            };
            let have = client.partial.len();
            if have >= scratch.len() {
                return self.remove(seat);
            }
            scratch[..have].copy_from_slice(&client.partial);
            let room = scratch.len() - have;
            let got = match client.read(&mut scratch[have..]) {
                Ok(0) => return self.remove(seat),
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.remove(seat),
            };
            let filled = &scratch[..have + got];
            let Some(consumed) = self.handle(seat, filled) else {
                return self.remove(seat);
            };
            if let Some(client) = self.clients[seat].as_mut() {
                client.partial.clear();
                client.partial.extend_from_slice(&filled[consumed..]);
                client.flush();
            }
            if got < room {
                return;
            }
        }
    }

    /// Whether a receiver of this publisher has too much waiting; it reads on when that is gone.
    fn must_wait(&mut self, seat: usize) -> bool {
        let Some(Role::Publisher { receivers, .. }) = self.role(seat) else {
            return false;
        };
        let full = receivers.iter().copied().find(|&receiver| {
            let receiver = self.clients.get(receiver).and_then(Option::as_ref);
            receiver.is_some_and(|receiver| receiver.waiting() >= WAITING_MAX)
        });
        let Some(full) = full.and_then(|receiver| self.clients[receiver].as_mut()) else {
            return false;
        };
        if !full.stopped.contains(&seat) {
            full.stopped.push(seat);
        }
        true
    }

    fn role(&self, seat: usize) -> Option<&Role> {
        Some(&self.clients.get(seat)?.as_ref()?.role)
    }

    /// Handles whole packets and says how many bytes they are; `None` ends the connection.
    fn handle(&mut self, seat: usize, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        // Where the run of PUBLISH packets begins that has not been passed on.
        let mut run = 0;
        loop {
            let frame = match split(&bytes[at..], PACKET_MAX) {
                Ok(Split::Frame(frame)) => frame,
                Ok(Split::Partial { .. }) => {
                    self.forward(seat, &bytes[run..at]);
                    return Some(at);
                }
                Err(_) => return None,
            };
            let end = at + frame.len;
            if frame.first >> 4 == 3 {
                self.acknowledge(seat, frame)?;
                // A shared subscription and a fault look at each packet.
                if self.fault.is_some() || self.takes_turns(seat) {
                    self.forward(seat, &bytes[at..end]);
                    run = end;
                }
            } else {
                self.forward(seat, &bytes[run..at]);
                run = end;
                self.packet(seat, frame)?;
            }
            at = end;
        }
    }

    /// Answers a PUBLISH, and finds its receivers if it is the first.
    fn acknowledge(&mut self, seat: usize, frame: Frame<'_>) -> Option<()> {
        let qos = frame.first >> 1 & 0b11;
        let client = self.clients.get_mut(seat)?.as_mut()?;
        let (&[high, low], rest) = frame.body.split_first_chunk::<2>()?;
        let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        if qos > 0 {
            let &[high, low] = rest.first_chunk::<2>()?;
            let first = if qos == 1 { 0x40 } else { 0x50 };
            client.say(&[first, 2, high, low]);
        }
        if !matches!(client.role, Role::Publisher { .. }) {
            let topic = std::str::from_utf8(topic).ok()?;
            let role = self.route(topic);
            self.clients.get_mut(seat)?.as_mut()?.role = role;
        }
        Some(())
    }

    /// The receivers of a topic: every one with a matching filter, or those of a shared subscription in turns.
    fn route(&self, topic: &str) -> Role {
        let mut receivers = Vec::new();
        let mut in_turns = false;
        for (seat, client) in self.clients.iter().enumerate() {
            let filters = client.as_ref().map_or(&[][..], |client| &client.filters);
            for filter in filters {
                let (shared, filter) = client::shared(filter);
                if client::matches(filter, topic) {
                    in_turns |= shared;
                    receivers.push(seat);
                    break;
                }
            }
        }
        Role::Publisher {
            receivers,
            in_turns,
            turn: 0,
        }
    }

    fn takes_turns(&self, seat: usize) -> bool {
        matches!(
            self.role(seat),
            Some(Role::Publisher { in_turns: true, .. })
        )
    }

    /// Passes packets on.
    fn forward(&mut self, seat: usize, packets: &[u8]) {
        if packets.is_empty() {
            return;
        }
        if self.fault.is_some() {
            return self.forward_with_fault(seat, packets);
        }
        // The list is taken out for the time, because receivers are clients as well.
        let Some(mut role) = self.take_role(seat) else {
            return;
        };
        if let Role::Publisher {
            receivers,
            in_turns,
            turn,
        } = &mut role
        {
            if *in_turns && !receivers.is_empty() {
                *turn = (*turn + 1) % receivers.len();
                self.pass(receivers[*turn], packets);
            } else {
                for &receiver in receivers.iter() {
                    self.pass(receiver, packets);
                }
            }
        }
        if let Some(client) = self.clients.get_mut(seat).and_then(Option::as_mut) {
            client.role = role;
        }
    }

    fn take_role(&mut self, seat: usize) -> Option<Role> {
        let client = self.clients.get_mut(seat)?.as_mut()?;
        Some(std::mem::replace(&mut client.role, Role::Other))
    }

    fn pass(&mut self, receiver: usize, packets: &[u8]) {
        if let Some(client) = self.clients.get_mut(receiver).and_then(Option::as_mut) {
            client.pass(packets);
        }
    }

    /// One packet, and perhaps the deed.
    fn forward_with_fault(&mut self, seat: usize, packet: &[u8]) {
        let Some(Role::Publisher { receivers, .. }) = self.role(seat) else {
            return;
        };
        let Some(&receiver) = receivers.first() else {
            return;
        };
        self.forwarded += 1;
        let now = self.forwarded == FAULT_AT;
        match self.fault {
            Some(Fault::Drop) if now => {}
            Some(Fault::Double) if now => {
                self.pass(receiver, packet);
                self.pass(receiver, packet);
            }
            Some(Fault::Swap) if now => self.held = Some((receiver, packet.to_vec())),
            Some(Fault::Flip) if now => {
                let mut packet = packet.to_vec();
                if let Some(last) = packet.last_mut() {
                    *last ^= 0b100;
                }
                self.pass(receiver, &packet);
            }
            Some(Fault::Misdirect) if now => {
                let other = self.another_receiver(receiver);
                self.pass(other.unwrap_or(receiver), packet);
            }
            _ => {
                self.pass(receiver, packet);
                // The one that was held back goes behind a later one of its receiver.
                if let Some((held_for, held)) =
                    self.held.take_if(|(held_for, _)| *held_for == receiver)
                {
                    self.pass(held_for, &held);
                }
            }
        }
    }

    fn another_receiver(&self, receiver: usize) -> Option<usize> {
        (0..self.clients.len()).find(|&other| {
            let client = self.clients[other].as_ref();
            other != receiver && client.is_some_and(|client| !client.filters.is_empty())
        })
    }

    /// Anything but PUBLISH.
    fn packet(&mut self, seat: usize, frame: Frame<'_>) -> Option<()> {
        let client = self.clients.get_mut(seat)?.as_mut()?;
        match (frame.first >> 4, frame.body) {
            // PUBREC of a receiver, PUBREL of a publisher; PUBACK and PUBCOMP need no answer.
            (5, &[high, low, ..]) => client.say(&[0x62, 2, high, low]),
            (6, &[high, low, ..]) => client.say(&[0x70, 2, high, low]),
            (4 | 7, _) => {}
            _ => {
                let Ok(packet) = Packet::decode(frame, client.version) else {
                    return None;
                };
                return client.answer(&packet);
            }
        }
        Some(())
    }

    fn remove(&mut self, seat: usize) {
        if let Some(mut client) = self.clients.get_mut(seat).and_then(Option::take) {
            client.goodbye(self.poll.registry());
            self.free.push(seat);
        }
    }
}
