//! The clock of paced runs: wakes the loop when messages are due.
//!
//! The timeout of a poll counts in milliseconds, which is far too coarse for thousands of messages a second; on Linux
//! a timer of the kernel wakes the loop instead. Elsewhere the loop is woken by the shortest timeout there is.

use mio::{Registry, Token};

use crate::failure::Failure;

/// Not woken more often than this; what falls between two wakes is sent together.
const INTERVAL_MIN_NANOS: f64 = 50_000.0;

#[cfg(target_os = "linux")]
mod timer {
    use std::os::fd::{AsRawFd as _, OwnedFd};

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    use crate::failure::Failure;

    /// A timer of the kernel.
    pub(crate) struct Timer {
        descriptor: OwnedFd,
    }

    impl Timer {
        pub(super) fn start(
            registry: &Registry,
            token: Token,
            nanos: u64,
        ) -> Result<Self, Failure> {
            let system =
                |error: rustix::io::Errno| Failure::system("cannot start a timer")(error.into());
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags).map_err(system)?;
            let every = Timespec {
                tv_sec: (nanos / 1_000_000_000).cast_signed(),
                tv_nsec: (nanos % 1_000_000_000).cast_signed(),
            };
            let times = Itimerspec {
                it_interval: every,
                it_value: every,
            };
            timerfd_settime(&descriptor, TimerfdTimerFlags::empty(), &times).map_err(system)?;
            registry
                .register(
                    &mut SourceFd(&descriptor.as_raw_fd()),
                    token,
                    Interest::READABLE,
                )
                .map_err(Failure::system("cannot watch a timer"))?;
            Ok(Self { descriptor })
        }

        /// The timer goes on only after it was read.
        pub(super) fn acknowledge(&mut self) -> Result<(), Failure> {
            match rustix::io::read(&self.descriptor, &mut [0; 8]) {
                Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(()),
                Err(error) => Err(Failure::system("cannot read a timer")(error.into())),
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod timer {
    use mio::{Registry, Token};

    use crate::failure::Failure;

    /// A thread that wakes the loop.
    pub(crate) struct Timer {
        _stop: std::sync::mpsc::Sender<()>,
    }

    impl Timer {
        pub(super) fn start(
            registry: &Registry,
            token: Token,
            nanos: u64,
        ) -> Result<Self, Failure> {
            let waker =
                mio::Waker::new(registry, token).map_err(Failure::system("cannot make a waker"))?;
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let interval = std::time::Duration::from_nanos(nanos);
            std::thread::spawn(move || {
                use std::sync::mpsc::RecvTimeoutError::Timeout;
                while stopped.recv_timeout(interval) == Err(Timeout) && waker.wake().is_ok() {}
            });
            Ok(Self { _stop: stop })
        }

        pub(super) fn acknowledge(&mut self) -> Result<(), Failure> {
            Ok(())
        }
    }
}

/// Wakes the loop at even intervals until it is dropped.
pub(crate) struct Pacer {
    timer: timer::Timer,
}

impl Pacer {
    /// Starts at intervals of `interval` nanoseconds, or of the shortest that makes sense.
    pub(crate) fn start(registry: &Registry, token: Token, interval: f64) -> Result<Self, Failure> {
        let nanos = interval.max(INTERVAL_MIN_NANOS) as u64;
        Ok(Self {
            timer: timer::Timer::start(registry, token, nanos)?,
        })
    }

    /// To be called after each wake.
    pub(crate) fn acknowledge(&mut self) -> Result<(), Failure> {
        self.timer.acknowledge()
    }
}
