//! The signals a serving process listens to: SIGINT and SIGTERM to stop, SIGHUP to reload, SIGUSR1 to
//! copy the store.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, by name.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP.
    Reload,
    /// SIGUSR1.
    Backup,
}

impl Signal {
    /// The exit code of a process that ends at once because of it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
            Self::Reload => 129,
            Self::Backup => 138,
        }
    }
}

/// Signals as they come.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    streams: [(Stream, Signal); 4],
}

impl Signals {
    /// Takes over the handling of the signals.
    ///
    /// # Errors
    /// Those of the operating system.
    #[cfg(unix)]
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            streams: [
                (signal(SignalKind::interrupt())?, Signal::Interrupt),
                (signal(SignalKind::terminate())?, Signal::Terminate),
                (signal(SignalKind::hangup())?, Signal::Reload),
                (signal(SignalKind::user_defined1())?, Signal::Backup),
            ],
        })
    }

    /// Takes over the handling of Ctrl-C, the only signal there is.
    ///
    /// # Errors
    /// None.
    #[cfg(not(unix))]
    pub fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next signal.
    #[cfg(unix)]
    pub async fn next(&mut self) -> Signal {
        let [(interrupt, a), (terminate, b), (hangup, c), (user, d)] = &mut self.streams;
        tokio::select! {
            _ = interrupt.recv() => *a,
            _ = terminate.recv() => *b,
            _ = hangup.recv() => *c,
            _ = user.recv() => *d,
        }
    }

    /// Waits for Ctrl-C.
    #[cfg(not(unix))]
    pub async fn next(&mut self) -> Signal {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::Interrupt
    }
}
