//! Closing a connection so that the peer can read what was last said.

use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How many unread bytes of the peer [`close_gracefully`] swallows before it gives up on it.
pub const CLOSE_DRAIN_BYTES_MAX: usize = 256 * 1024;

/// Shuts the write side down, then reads and drops what the peer still sends until it closes,
/// has sent [`CLOSE_DRAIN_BYTES_MAX`] bytes, or `linger` is over.
///
/// A socket that is closed with unread input answers with a reset, and a reset may destroy
/// what we wrote last before the peer has read it: a refusal would be lost. Errors are not
/// reported: the connection ends in any case when `stream` is dropped here.
pub async fn close_gracefully<S>(mut stream: S, linger: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let close = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut scratch = [0; 1024];
        let mut drained = 0;
        while drained < CLOSE_DRAIN_BYTES_MAX {
            match stream.read(&mut scratch).await {
                Ok(0) | Err(_) => return,
                Ok(n) => drained += n,
            }
        }
    };
    // Running out of time is one of the expected ends.
    drop(tokio::time::timeout(linger, close).await);
}
