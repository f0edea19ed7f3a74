//! What the broker does with the connections of one listener, besides what the transport does with their bytes.

/// Settings of one listener.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListenerPolicy {
    /// What the identity that the transport has verified (of a client certificate, for one) stands for.
    pub identity_as: IdentityUse,
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
