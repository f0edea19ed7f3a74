//! What the broker does with the connections of one listener, besides what the transport does with their bytes.

use martlet_transport::Network;

/// Settings of one listener. Behind a proxy, addresses are those that the proxy tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListenerPolicy {
    /// What the identity that the transport has verified (of a client certificate, for one) stands for.
    pub identity_as: IdentityUse,
    /// Networks that may connect; empty (default) for all. Others are closed at once, without a word.
    pub allow: Vec<Network>,
    /// Networks that may not, whatever `allow` says. Default none.
    pub deny: Vec<Network>,
    /// Connections at one time; further ones are closed at once. Default 0: as many as the broker takes.
    pub connections_max: usize,
    /// The same for one address (IPv6: one /64 network). Default 0: no bound.
    pub connections_per_address_max: usize,
    /// Connections that have not got as far as an accepted CONNECT. A further one makes the oldest of them go, so that
    /// whoever stalls makes room for whoever does not. Default 0: no bound but time.
    pub half_open_max: usize,
    /// The same for one address; a further one is closed at once. Default 0: no bound.
    pub half_open_per_address_max: usize,
    /// Connections taken in per second; others wait with the kernel (see the backlog). Default 0: no bound.
    pub connection_rate: u32,
    /// Connections per second of one address, after as many at once; further ones are closed at once. Default 0: no
    /// bound.
    pub connection_rate_per_address: u32,
}

/// What a verified identity stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum IdentityUse {
    /// The user name; whatever CONNECT says instead is not looked at, nor is its password.
    #[default]
    UserName,
    /// The client id: CONNECT must name the same one, or none.
    ClientId,
}
