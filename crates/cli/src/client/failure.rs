//! Why a client ends without success, in words and as the exit code that Mosquitto's clients use.

use martlet_client::{ConnectError, ConnectOptions, Disconnected, Error};
use martlet_codec::ReasonCode;

/// Exit code when `-W` ran out.
const TIMEOUT: u8 = 27;

/// Why a client ends without success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line makes no sense.
    #[error("error: {0}\n\nFor more information, try '--help'.")]
    Usage(String),
    /// The broker refused the connection.
    #[error("error: {words}")]
    Refused {
        /// What the broker said.
        words: String,
        /// The code with which it said so.
        code: u8,
    },
    /// The time given with `-W` ran out.
    #[error("timed out")]
    Timeout,
    /// Something else.
    #[error("error: {0}")]
    Other(String),
}

impl Failure {
    /// The exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Timeout => TIMEOUT,
            Self::Usage(_) | Self::Other(_) => 1,
        }
    }

    /// A connection that was not made. The exit code of a refusal is the code on the wire.
    pub(crate) fn connect(error: &ConnectError, options: &ConnectOptions) -> Self {
        let reason = match error {
            ConnectError::Refused { reason, .. } => reason,
            ConnectError::Tls => {
                return Self::Other(format!("{error}\n  help: use --cafile FILE or --tls"));
            }
            _ => return Self::Other(error.to_string()),
        };
        let code = if options.version.is_v5() {
            Some(*reason as u8)
        } else {
            reason.connect_return_code()
        };
        let hint = match reason {
            ReasonCode::NotAuthorized | ReasonCode::BadUserNameOrPassword
                if options.username.is_none() =>
            {
                "\n  help: log in with -u NAME -P PASSWORD"
            }
            ReasonCode::UnsupportedProtocolVersion => {
                "\n  help: try another version, such as -V 311"
            }
            ReasonCode::ClientIdentifierNotValid => "\n  help: choose another client id with -i",
            _ => "",
        };
        Self::Refused {
            words: format!("{error}{hint}"),
            code: code.unwrap_or(1),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<Disconnected> for Failure {
    fn from(cause: Disconnected) -> Self {
        Self::Other(cause.to_string())
    }
}
