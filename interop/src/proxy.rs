//! A proxy between test client and broker that applies one [`Mutant`].
//!
//! It cuts both directions into packets and hands each to the mutant, which passes it on, changes it, drops it or adds others.
//! What is not a packet in shape passes as it is. Deliberately absent: any rule of its own; with the mutant `none` nothing
//! changes.

use std::collections::HashMap;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Version;
use crate::broker::runtime;
use crate::mutants::Mutant;
use crate::wire::{ClientPacket, Connect, Packet, Publish, Subscribe, frame, kind, lenient, split};

/// A packet on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The first byte.
    pub first: u8,
    /// Everything after the remaining length.
    pub body: Vec<u8>,
}

impl Frame {
    /// The packet type.
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }
    /// The packet, if it is a well-formed one of a server.
    pub fn packet(&self, version: Version) -> Option<Packet> {
        Packet::read(self.first, &self.body, version).ok()
    }
    /// The PUBLISH, from either side.
    pub fn publish(&self, version: Version) -> Option<Publish> {
        if self.kind() != kind::PUBLISH {
            return None;
        }
        lenient::publish(self.first, &self.body, version)
    }
    /// The CONNECT.
    pub fn connect(&self) -> Option<Connect> {
        if self.kind() == kind::CONNECT {
            lenient::connect(&self.body)
        } else {
            None
        }
    }
    /// The SUBSCRIBE.
    pub fn subscribe(&self, version: Version) -> Option<Subscribe> {
        if self.kind() == kind::SUBSCRIBE {
            lenient::subscribe(&self.body, version)
        } else {
            None
        }
    }
    /// The packet identifier of an acknowledgement, SUBSCRIBE, SUBACK, UNSUBSCRIBE or UNSUBACK.
    pub fn id(&self) -> u16 {
        match self.body.as_slice() {
            [high, low, ..] => u16::from_be_bytes([*high, *low]),
            _ => 0,
        }
    }
    /// The bytes of the packet.
    pub fn bytes(&self) -> Vec<u8> {
        frame(self.first, &self.body)
    }
}

/// One client's connection through the proxy, as its mutant sees it.
#[derive(Debug)]
pub struct Link {
    /// The version the CONNECT named.
    pub version: Version,
    /// Numbers the mutant wants to remember.
    pub numbers: HashMap<u32, u32>,
    /// Packets the mutant wants to remember.
    pub kept: Vec<Frame>,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    cut: bool,
}

impl Link {
    fn new() -> Self {
        Self {
            version: Version::V311,
            numbers: HashMap::new(),
            kept: Vec::new(),
            to_server: Vec::new(),
            to_client: Vec::new(),
            cut: false,
        }
    }
    /// Sends a packet on to the server.
    pub fn up(&mut self, frame: &Frame) {
        self.to_server.extend(frame.bytes());
    }
    /// Sends a packet on to the client.
    pub fn down(&mut self, frame: &Frame) {
        self.to_client.extend(frame.bytes());
    }
    /// Sends bytes to the server.
    pub fn raw_up(&mut self, bytes: &[u8]) {
        self.to_server.extend_from_slice(bytes);
    }
    /// Sends bytes to the client.
    pub fn raw_down(&mut self, bytes: &[u8]) {
        self.to_client.extend_from_slice(bytes);
    }
    /// Sends a packet to the server.
    pub fn send_up(&mut self, packet: &impl ClientPacket) {
        let bytes = packet.bytes(self.version);
        self.raw_up(&bytes);
    }
    /// Sends a packet to the client.
    pub fn send_down(&mut self, packet: &Packet) {
        let bytes = packet.bytes(self.version);
        self.raw_down(&bytes);
    }
    /// Ends both connections once everything is sent.
    pub fn cut(&mut self) {
        self.cut = true;
    }
    /// Remembers `value` under `key`.
    pub fn note(&mut self, key: u32, value: u32) {
        self.numbers.insert(key, value);
    }
    /// What was remembered under `key`, 0 if nothing.
    pub fn noted(&self, key: u32) -> u32 {
        self.numbers.get(&key).copied().unwrap_or(0)
    }
    /// Counts under `key`; gives the number of times before this one.
    pub fn count(&mut self, key: u32) -> u32 {
        let count = self.numbers.entry(key).or_insert(0);
        *count += 1;
        *count - 1
    }
}

/// Listens on a free port for connections to `target` that pass through `mutant`.
pub async fn start(target: SocketAddr, mutant: &'static Mutant) -> SocketAddr {
    spawn(target, move |client, server| async move {
        relay(client, server, mutant).await;
    })
    .await
}

/// As [`start`], for listeners that do not speak plain MQTT: only byte rules of the mutant apply.
pub async fn start_raw(target: SocketAddr, mutant: &'static Mutant) -> SocketAddr {
    spawn(target, move |client, server| async move {
        relay_raw(client, server, mutant).await;
    })
    .await
}

async fn spawn<F>(
    target: SocketAddr,
    serve: impl Fn(TcpStream, TcpStream) -> F + Send + Copy + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listening = runtime().spawn(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(target).await {
                        let _ = (client.set_nodelay(true), server.set_nodelay(true));
                        serve(client, server).await;
                    }
                });
            }
        });
        address
    });
    listening.await.expect("the proxy starts")
}

/// Cuts whole packets off `buffer`; gives false when what is left is none in shape.
fn drain(buffer: &mut Vec<u8>, mut each: impl FnMut(Frame)) -> bool {
    loop {
        match split(buffer) {
            Ok(Some(span)) => {
                let rest = buffer.split_off(span.end);
                let whole = std::mem::replace(buffer, rest);
                each(Frame {
                    first: span.first,
                    body: whole[span.header..].to_vec(),
                });
            }
            // What announces more than any test sends has to be judged by its header.
            Ok(None) => {
                return buffer
                    .get(1..5)
                    .is_none_or(|length| length[..3].iter().any(|byte| byte & 0x80 == 0));
            }
            Err(_) => return false,
        }
    }
}

async fn relay(mut client: TcpStream, mut server: TcpStream, mutant: &'static Mutant) {
    let mut link = Link::new();
    let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
    let (mut client_chunk, mut server_chunk) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let (mut packets, mut server_open) = (true, true);
    loop {
        tokio::select! {
            read = client.read(&mut client_chunk) => match read {
                Ok(count) if count > 0 => {
                    from_client.extend_from_slice(&client_chunk[..count]);
                    if packets {
                        packets = drain(&mut from_client, |frame| {
                            if frame.kind() == kind::CONNECT && link.count(u32::MAX) == 0 {
                                link.version = lenient::version(&frame.body);
                            }
                            (mutant.up)(frame, &mut link);
                        });
                    }
                    if !packets {
                        link.to_server.append(&mut from_client);
                    }
                }
                Ok(_) => return,
                Err(_) => {
                    let _ = server.set_zero_linger();
                    return;
                }
            },
            read = server.read(&mut server_chunk), if server_open => match read {
                Ok(count) if count > 0 => {
                    from_server.extend_from_slice(&server_chunk[..count]);
                    if !drain(&mut from_server, |frame| (mutant.down)(frame, &mut link)) {
                        link.to_client.append(&mut from_server);
                    }
                }
                _ => {
                    server_open = false;
                    if !(mutant.hold)(&mut link) {
                        let _ = client.write_all(&link.to_client).await;
                        let _ = client.shutdown().await;
                        return;
                    }
                }
            },
        }
        let up = std::mem::take(&mut link.to_server);
        if server_open && !up.is_empty() {
            let _ = server.write_all(&up).await;
        }
        let down = std::mem::take(&mut link.to_client);
        if !down.is_empty() && client.write_all(&down).await.is_err() {
            return;
        }
        if link.cut {
            return;
        }
    }
}

async fn relay_raw(mut client: TcpStream, mut server: TcpStream, mutant: &'static Mutant) {
    let (mut client_chunk, mut server_chunk) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut client_chunk) => match read {
                Ok(count) if count > 0 => {
                    let bytes = (mutant.raw_up)(client_chunk[..count].to_vec());
                    if server.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            read = server.read(&mut server_chunk) => match read {
                Ok(count) if count > 0 => {
                    let bytes = (mutant.raw_down)(server_chunk[..count].to_vec());
                    if client.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}
