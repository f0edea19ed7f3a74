//! The embedded store against its contract, damaged files, disobedient disks and strange directories.

mod cleaning;
mod contract;
mod damage;
mod disk;
mod exchange;
mod format;
mod places;
mod support;
mod transfer;
