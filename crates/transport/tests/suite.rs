//! What every transport must do, whatever it is made of.

mod common;

use common::{ALL, Kind, pair, pattern};
use martlet_transport::close_gracefully;
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

async fn write_slowly(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    for byte in bytes {
        stream.write_all(&[*byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
}

/// Reads exactly so many bytes in pieces of `piece`.
async fn read_pieces(stream: &mut (impl AsyncRead + Unpin), len: usize, piece: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buf = vec![0; piece];
    while all.len() < len {
        let n = stream.read(&mut buf).await.unwrap();
        assert_ne!(n, 0, "ended after {} of {len} bytes", all.len());
        all.extend_from_slice(&buf[..n]);
    }
    all
}

#[tokio::test]
async fn byte_by_byte() {
    for &kind in ALL {
        let (mut client, mut server) = pair(kind).await;
        let sent = pattern(600);
        for piece in [1, 2, 1000] {
            let (there, ()) = tokio::join!(
                read_pieces(&mut server, sent.len(), piece),
                write_slowly(&mut client, &sent)
            );
            assert_eq!(there, sent, "{kind:?} to the server, pieces of {piece}");
            let (back, ()) = tokio::join!(
                read_pieces(&mut client, sent.len(), piece),
                write_slowly(&mut server, &sent)
            );
            assert_eq!(back, sent, "{kind:?} to the client, pieces of {piece}");
        }
    }
}

#[tokio::test]
async fn one_mebibyte_both_ways_at_once() {
    for &kind in ALL {
        let (client, server) = pair(kind).await;
        let sent = pattern(kind.volume(1024 * 1024));
        let (mut client_read, mut client_write) = tokio::io::split(client);
        let (mut server_read, mut server_write) = tokio::io::split(server);
        let there = sent.clone();
        let back = sent.clone();
        // Separate tasks: each half has its own waker, also below a WebSocket.
        let writers = [
            tokio::spawn(async move { client_write.write_all(&there).await }),
            tokio::spawn(async move { server_write.write_all(&back).await }),
        ];
        let (there, back) = tokio::join!(
            read_pieces(&mut server_read, sent.len(), 64 * 1024),
            read_pieces(&mut client_read, sent.len(), 64 * 1024)
        );
        assert!(there == sent, "{kind:?} to the server");
        assert!(back == sent, "{kind:?} to the client");
        for writer in writers {
            writer.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn vectored_writes() {
    for &kind in ALL {
        let (mut client, mut server) = pair(kind).await;
        let sent = pattern(kind.volume(1024 * 1024));
        // More slices than are passed on at once, with empty ones between.
        let mut slices = Vec::new();
        for (index, chunk) in sent.chunks(97).enumerate() {
            if index % 3 == 0 {
                slices.push(IoSlice::new(&[]));
            }
            slices.push(IoSlice::new(chunk));
        }
        let write = async {
            let mut left = &mut slices[..];
            while !left.is_empty() {
                let n = client.write_vectored(left).await.unwrap();
                IoSlice::advance_slices(&mut left, n);
            }
        };
        let (there, ()) = tokio::join!(read_pieces(&mut server, sent.len(), 5000), write);
        assert!(there == sent, "{kind:?}");
    }
}

#[tokio::test]
async fn half_close() {
    for &kind in ALL {
        let (mut client, mut server) = pair(kind).await;
        let (written, read) = tokio::join!(
            async {
                client.write_all(b"last words").await?;
                client.shutdown().await
            },
            async {
                let mut read = Vec::new();
                server.read_to_end(&mut read).await.map(|_| read)
            }
        );
        written.unwrap();
        assert_eq!(read.unwrap(), b"last words", "{kind:?}");
        let (shut, end) =
            tokio::join!(server.shutdown(), async { client.read(&mut [0; 10]).await });
        shut.unwrap();
        assert_eq!(
            end.unwrap(),
            0,
            "{kind:?}: the other direction ends as well"
        );
    }
}

#[tokio::test]
async fn writing_after_the_close_fails() {
    for &kind in ALL {
        let (mut client, mut server) = pair(kind).await;
        client.shutdown().await.unwrap();
        client
            .write_all(b"more")
            .await
            .expect_err("it was shut down");
        assert_eq!(server.read(&mut [0; 10]).await.unwrap(), 0, "{kind:?}");
    }
}

#[tokio::test]
async fn abrupt_close_ends_reading() {
    for &kind in ALL {
        let (mut client, mut server) = pair(kind).await;
        client.write_all(b"abc").await.unwrap();
        drop(client);
        let mut read = Vec::new();
        loop {
            let mut buf = [0; 10];
            match server.read(&mut buf).await {
                Ok(0) => break,
                Ok(n) => read.extend_from_slice(&buf[..n]),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{kind:?}");
                    break;
                }
            }
        }
        // QUIC may throw away what was not read yet when the connection is gone; the others deliver it first.
        if matches!(kind, Kind::Quic) {
            assert!(b"abc".starts_with(&read), "{read:?}");
        } else {
            assert_eq!(read, b"abc", "{kind:?}");
        }
    }
}

#[tokio::test]
async fn a_refusal_can_be_read_although_its_receiver_goes_on_sending() {
    for kind in [Kind::Tcp, Kind::Ws, Kind::Tls, Kind::Wss] {
        let (mut client, mut server) = pair(kind).await;
        // Unread input would turn a plain close into a reset.
        client.write_all(&pattern(50_000)).await.unwrap();
        server.read_exact(&mut [0; 10]).await.unwrap();
        let refuse = async {
            server.write_all(b"go away").await.unwrap();
            close_gracefully(server, Duration::from_secs(30)).await;
        };
        let read = async {
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.map(|_| {
                drop(client);
                read
            })
        };
        let ((), read) = tokio::join!(refuse, read);
        assert_eq!(read.unwrap(), b"go away", "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn closing_gracefully_does_not_wait_for_ever() {
    let (mut client, server) = pair(Kind::WsChoppy).await;
    // The peer keeps the connection open and silent.
    close_gracefully(server, Duration::from_secs(2)).await;
    assert_eq!(client.read(&mut [0; 10]).await.unwrap(), 0);
}

#[tokio::test]
async fn back_pressure() {
    for &kind in ALL {
        let (mut client, mut server) = pair(kind).await;
        let chunk = pattern(64 * 1024);
        // Nobody reads: writing must stop after a bounded number of bytes.
        let mut taken = 0;
        let mut stalled = 0;
        while stalled < 50 {
            assert!(taken < 64 * 1024 * 1024, "{kind:?} takes everything");
            let offset = taken % chunk.len();
            let poll =
                poll_fn(|cx| Poll::Ready(Pin::new(&mut server).poll_write(cx, &chunk[offset..])));
            match poll.await {
                Poll::Ready(result) => {
                    taken += result.unwrap();
                    stalled = 0;
                }
                Poll::Pending => {
                    stalled += 1;
                    tokio::task::yield_now().await;
                }
            }
        }
        // Then everything that was taken arrives.
        let write = async {
            let offset = taken % chunk.len();
            server.write_all(&chunk[offset..]).await.unwrap();
            server.shutdown().await.unwrap();
        };
        let read = async {
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.unwrap();
            read
        };
        let ((), read) = tokio::join!(write, read);
        assert_eq!(read.len() % chunk.len(), 0, "{kind:?}");
        assert!(
            read.chunks(chunk.len()).all(|part| part == chunk),
            "{kind:?}"
        );
    }
}
