//! What a serving process does besides serving: pid file, signals, listeners, banner, reload, service manager.

pub mod activation;
pub mod backup;
pub mod banner;
pub mod listeners;
pub mod notify;
pub mod pid_file;
pub mod reload;
pub mod signals;
