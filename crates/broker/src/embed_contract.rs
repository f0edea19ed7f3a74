//! CONTRACT of the embedding interface; replaced by the real thing under the same names.
#![allow(missing_docs, unused_variables, clippy::all, clippy::pedantic, clippy::unimplemented, dead_code)]
use crate::config::Config;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};

/// A running broker; clones refer to the same one.
#[derive(Clone)]
pub struct Broker;
/// Why a broker could not start or change its settings: names the key.
#[derive(Debug)]
pub struct ConfigError { pub key: String, pub problem: String }
impl std::fmt::Display for ConfigError { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "{}: {}", self.key, self.problem) } }
impl std::error::Error for ConfigError {}
pub struct Builder;
impl Builder {
    pub fn config(self, config: Config) -> Self { self }
    /// Text of `$SYS/broker/version`.
    pub fn version(self, version: &str) -> Self { self }
    // later: committer(..), authenticator(..), authorizer(..), hooks(..), clock(..), seed(u64)
    /// Starts timers and `$SYS` on the current tokio runtime.
    pub fn start(self) -> Result<Broker, ConfigError> { unimplemented!() }
}
#[derive(Clone, Debug)]
pub struct ListenerInfo { pub id: String, pub url: String, pub local_addr: SocketAddr, pub connections: usize }
impl Broker {
    pub fn builder() -> Builder { unimplemented!() }
    /// Binds and starts accepting. `address`: `tcp://127.0.0.1:0`, `ws://...`. Errors name the address and the cause.
    pub async fn listen(&self, id: &str, address: &martlet_transport::ListenAddress, options: &martlet_transport::ListenerOptions) -> Result<ListenerInfo, martlet_transport::BindError> { unimplemented!() }
    pub fn listeners(&self) -> Vec<ListenerInfo> { unimplemented!() }
    /// Serves one already established byte stream as a client connection (in-memory pipes, tests, side-cars).
    pub fn attach(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, peer: &str) { unimplemented!() }
    /// Checks `config` and applies what can change while running (everything but what the error or the returned list names).
    pub fn reload(&self, config: Config) -> Result<(), ConfigError> { unimplemented!() }
    /// Stops accepting, says goodbye (0x8B), publishes wills, flushes, waits at most `grace`.
    pub async fn shutdown(&self, grace: std::time::Duration) { unimplemented!() }
    pub fn clients_connected(&self) -> usize { unimplemented!() }
}
