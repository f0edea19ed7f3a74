//! Why a run has no figures.

use std::io;

use crate::verdict::Verdict;

/// Why a run has no figures.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The options make no sense together.
    #[error("{0}")]
    Options(String),
    /// The operating system refused something.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The broker refused a client, closed a connection, or does not speak MQTT.
    #[error("{0}")]
    Broker(String),
    /// Deliveries were not what was promised.
    #[error("promises broken: {0}")]
    Broken(Box<Verdict>),
    /// Nothing arrived any more, or the time of the run was over.
    #[error("{0}")]
    Time(String),
}

impl Failure {
    pub(crate) fn system(what: &'static str) -> impl Fn(io::Error) -> Self + Copy {
        move |error| Self::System { what, error }
    }
}
