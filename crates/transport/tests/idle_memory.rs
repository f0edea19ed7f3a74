//! How much heap an idle connection costs: a WebSocket hardly more than plain TCP.
//!
//! `cargo test -p martlet-transport --test idle_memory -- --nocapture` prints the figures.
#![expect(clippy::print_stdout, reason = "the figures are of use")]

use martlet_transport::{Listener, ListenerOptions, Stream};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CONNECTIONS: usize = 200;

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: mqtt\r\n\r\n";

/// A connection that has carried something each way, a ping included, and is idle now.
async fn used(listener: &mut Listener, web_socket: bool) -> (TcpStream, Stream) {
    let mut client = TcpStream::connect(listener.local_addr()).unwrap();
    if web_socket {
        client.write_all(REQUEST).unwrap();
    }
    let accepted = listener.accept().await.unwrap();
    let mut server = accepted.establish().await.unwrap().stream;
    let hello: &[u8] = if web_socket {
        b"\x89\x83\0\0\0\0abc\x82\x85\0\0\0\0hello"
    } else {
        b"hello"
    };
    client.write_all(hello).unwrap();
    let mut read = [0; 5];
    server.read_exact(&mut read).await.unwrap();
    server.write_all(&read).await.unwrap();
    let mut answered = Vec::new();
    while !answered.ends_with(b"hello") {
        let mut buf = [0; 1000];
        let n = client.read(&mut buf).unwrap();
        assert_ne!(n, 0, "the server closed");
        answered.extend_from_slice(&buf[..n]);
    }
    (client, server)
}

async fn heap_per_connection(url: &str) -> usize {
    let mut listener = Listener::bind(&url.parse().unwrap(), &ListenerOptions::default())
        .await
        .unwrap();
    let web_socket = url.starts_with("ws");
    // The first one pays for what all share.
    let _first = used(&mut listener, web_socket).await;
    let mut connections = Vec::with_capacity(CONNECTIONS);
    let region = Region::new(ALLOCATOR);
    for _ in 0..CONNECTIONS {
        connections.push(used(&mut listener, web_socket).await);
    }
    let change = region.change();
    let heap = change.bytes_allocated - change.bytes_deallocated;
    drop(connections);
    heap / CONNECTIONS
}

#[tokio::test]
async fn an_idle_web_socket_has_no_buffers() {
    let tcp = heap_per_connection("tcp://127.0.0.1:0").await;
    let ws = heap_per_connection("ws://127.0.0.1:0").await;
    let inline = size_of::<Stream>();
    println!("heap per idle connection: TCP {tcp} B, WebSocket {ws} B; Stream itself {inline} B");
    assert!(ws <= tcp + 320, "TCP {tcp} B, WebSocket {ws} B");
    // TCP pays for the existence of WebSocket with the tag of the enum and a pointer.
    assert!(inline <= size_of::<tokio::net::TcpStream>() + 16);
}
