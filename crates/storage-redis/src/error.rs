//! Why a store could not be opened, in words that say what to do.

use martlet_storage::StorageError;

use crate::script::FORMAT;

/// Why a store in a Redis server could not be opened. Nothing in the server was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The address cannot be understood.
    #[error("{0}; write redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE][?prefix=NAME]")]
    Address(String),
    /// A file that the address names.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server cannot be reached, or refuses.
    #[error("{address}: {error}")]
    Server {
        /// The address, without a password.
        address: String,
        /// What went wrong.
        error: StorageError,
    },
    /// Another broker is using the store.
    #[error("{address} is in use by {holder}; stop it, or give this broker another ?prefix=")]
    Locked {
        /// The address, without a password.
        address: String,
        /// The other broker.
        holder: String,
    },
    /// There is no store.
    #[error("{address} holds no store")]
    Missing {
        /// The address, without a password.
        address: String,
    },
    /// The keys are somebody else's.
    #[error("{address} holds keys of something else; give this broker another ?prefix=")]
    Foreign {
        /// The address, without a password.
        address: String,
    },
    /// A later version wrote the store.
    #[error(
        "{address} has format {found}; this version knows formats up to {FORMAT}: use the newer version"
    )]
    Newer {
        /// The address, without a password.
        address: String,
        /// Its format.
        found: String,
    },
}
