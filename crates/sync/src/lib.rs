//! The locks, threads and clock of the storage and broker crates: parking_lot's and the standard library's, unless the
//! build is one for the simulator (`--cfg martlet_simulate`). There every lock is a point at which the
//! scheduler of the simulator may let others go on, nothing ever blocks the real thread, and
//! time is virtual. The code above is the same in both.
//!
//! Deliberately absent: atomics, which stay the standard library's (loom explores those, see `martlet-broker`), and any
//! scheduler, which is in `martlet-simulate`.

#[cfg(not(martlet_simulate))]
mod real {
    pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
    pub use std::{thread, time::Instant};
}
#[cfg(not(martlet_simulate))]
pub use real::*;

#[cfg(martlet_simulate)]
pub mod simulated;
#[cfg(martlet_simulate)]
pub use simulated::{Condvar, Instant, Mutex, MutexGuard, RwLock, thread};

mod planted;
pub use planted::Planted;
