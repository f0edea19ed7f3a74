//! QUIC: a thread beside the engine takes plain connections of this process and passes each on as a QUIC connection with
//! one stream.
//!
//! The engine keeps its one loop and its accounts; what the way through the loopback costs is the generator's CPU time,
//! not the broker's. All connections share one UDP socket.
//!
//! Deliberately absent: several streams of one client.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, TransportConfig, VarInt};
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use crate::failure::Failure;
use crate::socket::CONNECT_TIMEOUT;

/// What QUIC clients of MQTT propose.
const ALPN: &[u8] = b"mqtt";

const HANDSHAKES_MAX: usize = 8;

/// The thread and where it listens. It ends when this is dropped.
pub(crate) struct Gateway {
    address: SocketAddr,
    /// Why the first connection that failed did.
    failure: Arc<OnceLock<String>>,
    runtime: Option<Runtime>,
}

impl Gateway {
    /// Listens on a port of the loopback for connections that are to go to the broker at `broker`.
    pub(crate) fn start(
        broker: SocketAddr,
        tls: &rustls::ClientConfig,
        name: &ServerName<'_>,
    ) -> Result<Self, Failure> {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let crypto = QuicClientConfig::try_from(tls)
            .map_err(|error| Failure::Options(format!("QUIC: {error}")))?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        let mut transport = TransportConfig::default();
        transport.max_idle_timeout(None);
        config.transport_config(Arc::new(transport));
        let failed = Failure::system("cannot speak QUIC");
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.map_err(failed)?;
        let here = runtime.enter();
        let any = match broker {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let mut endpoint = Endpoint::client(any).map_err(failed)?;
        endpoint.set_default_client_config(config);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = runtime.block_on(listener).map_err(failed)?;
        drop(here);
        let address = listener.local_addr().map_err(failed)?;
        let failure = Arc::new(OnceLock::new());
        let way = Arc::new(Way {
            endpoint,
            broker,
            name: name.to_str().into_owned(),
            failure: Arc::clone(&failure),
            handshakes: Semaphore::new(HANDSHAKES_MAX),
        });
        runtime.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let way = Arc::clone(&way);
                tokio::spawn(async move {
                    if let Err(error) = way.pass_on(&mut stream).await {
                        // The first one tells what is wrong with all of them, before the engine sees the end of its own.
                        let _ = way.failure.set(error);
                    }
                    drop(stream);
                });
            }
        });
        Ok(Self {
            address,
            failure,
            runtime: Some(runtime),
        })
    }

    /// Where connections to the broker begin.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Why connections end before they began, where they do.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// How connections get to the broker.
struct Way {
    endpoint: Endpoint,
    broker: SocketAddr,
    name: String,
    failure: Arc<OnceLock<String>>,
    /// Handshakes at a time: the answers of more would not fit the buffer of the one socket.
    handshakes: Semaphore,
}

impl Way {
    /// Shakes hands, then copies both ways until the broker is done.
    async fn pass_on(&self, stream: &mut TcpStream) -> Result<(), String> {
        let words = |error: String| format!("cannot connect to {}: {error}", self.broker);
        let turn = self.handshakes.acquire().await;
        let connecting = self.endpoint.connect(self.broker, &self.name);
        let connection = connecting.map_err(|error| words(error.to_string()))?;
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, connection)
            .await
            .map_err(|_| words("no answer".to_owned()))?
            .map_err(|error| words(error.to_string()))?;
        drop(turn);
        let opened = connection.open_bi().await;
        let (mut send, mut receive) = opened.map_err(|error| words(error.to_string()))?;
        // A stream that ends before its time is seen by the engine, whose connection ends with it.
        let _ = stream.set_nodelay(true);
        let (mut from, mut to) = stream.split();
        let up = async {
            let copied = tokio::io::copy(&mut from, &mut send).await;
            let _ = send.finish();
            if copied.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = up => {}
            _ = tokio::io::copy(&mut receive, &mut to) => {}
        }
        connection.close(VarInt::from_u32(0), b"");
        Ok(())
    }
}
