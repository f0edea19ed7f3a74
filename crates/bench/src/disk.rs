//! How often a disk takes an append and syncs it: the floor under every acknowledgement that waits for a disk.
//!
//! Measured before a run and after it, while nothing else writes there, since the rate of one disk drifts. Deliberately
//! absent: anything else a disk does; a store that acknowledges from a log appends and syncs.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::report::Figure;

/// How long each size is measured.
const FOR: Duration = Duration::from_secs(1);
/// Bytes of an append: one small message, and a page, with the keys of their rates.
const SIZES: [(usize, &str, &str); 2] = [
    (
        256,
        "disk_syncs_256_per_second",
        "the disk: appends of 256 B synced",
    ),
    (
        4_096,
        "disk_syncs_4096_per_second",
        "the disk: appends of 4 KiB synced",
    ),
];

/// Synced appends a second of each size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DiskRates([f64; SIZES.len()]);

impl DiskRates {
    /// Measures the disk that `directory` is on, with a file there that is removed again.
    ///
    /// # Errors
    /// No file can be made there, written or synced.
    pub(crate) fn measure(directory: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            let words = format!("{}: cannot measure the disk: {error}", directory.display());
            Failure::Options(words)
        };
        let mut rates = [0.0; SIZES.len()];
        for (rate, (bytes, ..)) in rates.iter_mut().zip(SIZES) {
            *rate = synced_appends(directory, bytes).map_err(failed)?;
        }
        Ok(Self(rates))
    }

    /// What lies between this and a later measurement.
    pub(crate) fn and(self, later: Self) -> Self {
        let mut rates = self.0;
        for (rate, later) in rates.iter_mut().zip(later.0) {
            *rate = f64::midpoint(*rate, later);
        }
        Self(rates)
    }

    /// The rates as figures, and how many acknowledgements a second there were to each sync of the smaller size.
    pub(crate) fn figures(self, acknowledged_per_second: Option<f64>, figures: &mut Vec<Figure>) {
        for (value, (_, key, label)) in self.0.into_iter().zip(SIZES) {
            figures.push(Figure {
                key,
                label,
                value,
                unit: "/s",
            });
        }
        if let Some(acknowledged) = acknowledged_per_second {
            figures.push(Figure {
                key: "acknowledged_per_disk_sync",
                label: "acknowledged for each such 256 B",
                value: acknowledged / self.0[0],
                unit: "",
            });
        }
    }
}

/// Synced appends a second to the disk that `directory` is on, for 256 B and for 4 KiB.
///
/// # Errors
/// No file can be made there, written or synced.
pub fn disk(directory: &Path) -> Result<Vec<Figure>, Failure> {
    let mut figures = Vec::new();
    DiskRates::measure(directory)?.figures(None, &mut figures);
    Ok(figures)
}

fn synced_appends(directory: &Path, bytes: usize) -> io::Result<f64> {
    let path = directory.join(format!("martlet-bench-{}.tmp", std::process::id()));
    let file = Removed(File::create_new(&path)?, path);
    let appended = vec![0xA5; bytes];
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < FOR {
        (&file.0).write_all(&appended)?;
        file.0.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

/// A file that goes with its owner.
struct Removed(File, PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // Where that fails the file is a few MiB that say what they are.
        let _ = fs::remove_file(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_measured_and_left_as_it_was() {
        let name = format!("martlet-disk-test-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).expect("a directory");
        let figures = disk(&directory).expect("it can be written");
        assert_eq!(figures.len(), SIZES.len());
        assert!(figures.iter().all(|figure| figure.value > 0.0));
        // Which fails unless it is empty.
        fs::remove_dir(&directory).expect("nothing is left");
        let error = disk(&directory).expect_err("there is no such directory");
        let words = error.to_string();
        assert!(words.contains(&*directory.to_string_lossy()), "{words}");
    }

    #[test]
    fn two_measurements_are_one() {
        let rates = DiskRates([100.0, 50.0]).and(DiskRates([300.0, 50.0]));
        let mut figures = Vec::new();
        rates.figures(Some(10_000.0), &mut figures);
        let values: Vec<f64> = figures.iter().map(|figure| figure.value).collect();
        assert_eq!(values, [200.0, 50.0, 50.0]);
    }
}
