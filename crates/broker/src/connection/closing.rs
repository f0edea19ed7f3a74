//! The end of a connection: the session is let go first, then the client hears why, then the stream closes,
//! write side first so that the client can read it.

use std::{io::IoSlice, pin::Pin, time::Duration};

use martlet_codec::{Disconnect, Packet, Property, Props, PropsBuf, ReasonCode};
use martlet_session::Chunk;
use martlet_transport::{ByteStream, close_gracefully};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Connection, End};
use crate::counters::Event;

/// How long the last words may take, and how long the client is given to read them.
const LINGER: Duration = Duration::from_secs(1);

impl<S: ByteStream> Connection<S> {
    /// Ends the connection for the reason `end`.
    pub(super) async fn finish(mut self, end: End) {
        let (with_will, expiry) = match &end {
            End::Disconnected {
                with_will,
                session_expiry_secs,
            } => (*with_will, *session_expiry_secs),
            _ => (true, None),
        };
        self.drop_what_would_overtake();
        if self.detach_now(with_will, expiry) {
            self.log(&end);
        }
        self.core
            .hooks
            .disconnected(&self.identity, reason_of(&end));
        if matches!(end, End::Violation(_)) {
            self.core.counters.event(Event::ProtocolError);
        }
        let farewell = match &end {
            // Nothing may come before CONNACK [MQTT-3.14.0-1].
            End::Violation(_) | End::Kicked(_) if !self.has_greeted() => None,
            End::Violation(violation) => Some((violation.reason, violation.text.as_str())),
            End::Kicked(kick) => Some((kick.reason, kick.text)),
            End::Disconnected { .. } => None,
            End::PeerClosed | End::Stream(..) | End::Lost => {
                self.core.counters.client_disconnected(reason_of(&end));
                return;
            }
        };
        self.core.counters.client_disconnected(reason_of(&end));
        let chunk = self.take_chunk();
        let mut last = std::mem::take(&mut self.lane.local);
        if let Some((reason, text)) = farewell {
            last.extend(self.disconnect(reason, text));
        }
        self.core.counters.packets_sent(&last);
        let bytes = chunk.len() + last.len();
        // A socket that is full of unread bytes hears nothing more.
        let written =
            tokio::time::timeout(LINGER, write_last(&mut self.lane.stream, chunk, &last)).await;
        if matches!(written, Ok(Ok(()))) {
            self.core.counters.bytes_sent(bytes);
            if self.config.compat.passive_client_disconnect {
                let _ = tokio::time::timeout(
                    self.config.limits.connect_timeout,
                    drain(&mut self.lane.stream),
                )
                .await;
            }
            close_gracefully(&mut self.lane.stream, LINGER).await;
        }
    }

    /// The output that nobody fetched any more is lost, and with it acknowledgements; later ones must not leave without
    /// them [MQTT-4.6.0-2].
    fn drop_what_would_overtake(&mut self) {
        let epoch = self.epoch;
        let unfetched = self.session.with_outbox(|outbox| {
            outbox
                .owned_by(epoch)
                .is_some_and(|own| !own.out.is_empty())
        });
        if unfetched != Some(false) {
            self.lane.local.clear();
        }
    }

    /// DISCONNECT with the reason, for version 5 only.
    fn disconnect(&self, reason: ReasonCode, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !self.version.is_v5() {
            return bytes;
        }
        let words = PropsBuf::new().with(Property::ReasonString(text));
        let mut packet = Disconnect {
            reason,
            props: words.as_props(),
        };
        let len = Packet::Disconnect(packet)
            .encoded_len(self.version)
            .unwrap_or(usize::MAX);
        if len > self.packet_bytes_max as usize
            || !self.problem_information && reason == ReasonCode::Success
        {
            packet.props = Props::EMPTY;
        }
        // It fails for nothing that is said here; a missing farewell is no harm.
        let _ = Packet::Disconnect(packet).encode(self.version, &mut bytes);
        bytes
    }

    fn detach_now(&mut self, with_will: bool, expiry: Option<u32>) -> bool {
        self.mark_finished();
        self.extras = None;
        self.core
            .detach(&self.session, self.epoch, with_will, expiry)
    }

    fn log(&self, end: &End) {
        let client = &*self.session.client_id;
        let user = self.identity.username.as_deref().unwrap_or_default();
        let peer = &*self.identity.origin.peer;
        let listener = &*self.identity.origin.listener;
        let secs = self.connected_for_secs();
        let code = reason_of(end) as u8;
        match end {
            End::Violation(violation) => tracing::warn!(
                event = "client_disconnected", client, user, peer, listener, secs, code, reason = %violation.text,
                "Client {client} disconnected: {}", violation.text
            ),
            End::Kicked(kick) => tracing::info!(
                event = "client_disconnected",
                client,
                user,
                peer,
                listener,
                secs,
                code,
                reason = kick.text,
                "Client {client} disconnected: {}",
                kick.text
            ),
            End::Disconnected { .. } => tracing::info!(
                event = "client_disconnected",
                client,
                user,
                peer,
                listener,
                secs,
                code,
                reason = "DISCONNECT",
                "Client {client} disconnected."
            ),
            End::PeerClosed => tracing::info!(
                event = "client_disconnected",
                client,
                user,
                peer,
                listener,
                secs,
                code,
                reason = "closed",
                "Client {client} closed its connection."
            ),
            End::Stream(_, error) => tracing::info!(
                event = "client_disconnected", client, user, peer, listener, secs, code, reason = %error,
                "Client {client} disconnected: {error}"
            ),
            End::Lost => {}
        }
    }
}

pub(super) fn reason_of(end: &End) -> ReasonCode {
    match end {
        End::Disconnected {
            with_will: true, ..
        } => ReasonCode::DisconnectWithWill,
        End::Disconnected { .. } => ReasonCode::Success,
        End::PeerClosed | End::Stream(..) | End::Lost => ReasonCode::UnspecifiedError,
        End::Violation(violation) => violation.reason,
        End::Kicked(kick) => kick.reason,
    }
}

/// Finishes the packet that is half written, then says the last words.
async fn write_last<S: ByteStream>(
    stream: &mut S,
    mut chunk: Chunk,
    last: &[u8],
) -> std::io::Result<()> {
    while !chunk.is_empty() {
        let written = std::future::poll_fn(|cx| {
            let mut slices = [IoSlice::new(&[]); 16];
            let filled = chunk.slices(&mut slices);
            Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..filled])
        })
        .await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        chunk.advance(written);
    }
    stream.write_all(last).await?;
    stream.flush().await
}

/// Waits until the client closes.
async fn drain<S: ByteStream>(stream: &mut S) {
    let mut scratch = [0; 1024];
    while matches!(stream.read(&mut scratch).await, Ok(1..)) {}
}
