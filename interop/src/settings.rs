//! The broker's settings, as far as tests that start their own broker use them.

pub use martlet_broker::config::{
    Config, DeliveryMode, QueueOverflow, Rights, SharedStrategy, User,
};

/// The hash of a password as a user table wants it.
pub fn hash(password: &str) -> String {
    martlet_broker::auth::hash_password(password.as_bytes()).expect("the system has randomness")
}
