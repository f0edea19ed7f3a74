//! The directory of an embedded store: which of its files are segments. Deliberately absent: what is in them.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use martlet_storage::place::{self, Kind, OpenError};

/// The format that new stores get, and the highest one that can be read.
pub const FORMAT: u32 = 1;

const KIND: Kind = Kind {
    backend: "embedded",
    format: FORMAT,
    unfinished: |name| segment_number(name) == Some(1),
};

/// A directory that belongs to this process while the value lives.
#[derive(Debug)]
pub(crate) struct Place(place::Place);

impl Deref for Place {
    type Target = place::Place;

    fn deref(&self) -> &place::Place {
        &self.0
    }
}

impl Place {
    /// Checks and locks the directory. Changes nothing in a directory that is not a store's.
    pub(crate) fn take(path: &Path, create: bool) -> Result<Self, OpenError> {
        place::Place::take(path, create, KIND).map(Self)
    }

    pub(crate) fn segment(&self, number: u32) -> PathBuf {
        self.path().join(format!("{number:08x}.log"))
    }

    /// Numbers of the segments that are there, ascending.
    pub(crate) fn segments(&self) -> Result<Vec<u32>, OpenError> {
        let entries =
            fs::read_dir(self.path()).map_err(OpenError::io(self.path(), "list the directory"))?;
        let mut numbers = Vec::new();
        for entry in entries {
            let entry = entry.map_err(OpenError::io(self.path(), "list the directory"))?;
            if let Some(number) = entry.file_name().to_str().and_then(segment_number) {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 8)
        .then(|| u32::from_str_radix(digits, 16).ok())
        .flatten()
}
