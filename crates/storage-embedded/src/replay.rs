//! Reading the log from its oldest segment to its end, and finding where it is not what was written.
//!
//! Headers and rows of every frame are checked, long values only of frames that may not have been synced: those
//! of the others are checked when they are read. Deliberately absent: changing anything; see [`crate::repair`].

use std::fs::File;
use std::sync::Arc;

use martlet_storage::place::{Mark, OpenError};

use crate::frame::{HEADER_BYTES, Header, Kind};
use crate::index::{Index, Segment};
use crate::place::Place;
use crate::segment::{HEAD_BYTES, Reader};

/// A log that was read to its end.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) index: Index,
    /// The last batch.
    pub(crate) last: u64,
    /// Batches read.
    pub(crate) frames: u64,
}

/// A place where the log is not what was written.
#[derive(Debug)]
pub(crate) struct Damage {
    /// The segment where it starts; the file may be missing.
    pub(crate) segment: u32,
    /// The first byte that is not understood.
    pub(crate) at: u64,
    /// The last batch before it.
    pub(crate) last: u64,
    /// The last batch that was acknowledged as synced, as far as anything still says.
    pub(crate) acknowledged: u64,
    /// Where the log goes on: segment, byte, batch.
    pub(crate) next: Option<(u32, u64, u64)>,
    /// Segments that are there, from the damaged one on.
    pub(crate) rest: Vec<u32>,
}

/// Reads the log up to its end, or up to the first damage.
pub(crate) fn replay(
    place: &Place,
    segments: &[u32],
    mark: Option<Mark>,
    salt: u64,
) -> Result<(Replayed, Option<Damage>), OpenError> {
    let mut replay = Replay {
        place,
        segments,
        mark: mark.unwrap_or_default(),
        salt,
        index: Index::default(),
        last: None,
        synced: mark.map_or(0, |mark| mark.synced),
        frames: 0,
    };
    let Some(newest) = segments.last().copied() else {
        return Ok(replay.whole());
    };
    // Segments before the first one that is there were cleaned away, unless the mark says that they are needed.
    let oldest = mark
        .map(|mark| mark.oldest)
        .filter(|oldest| *oldest > 0)
        .or_else(|| segments.first().copied())
        .unwrap_or(newest);
    for number in oldest..=newest {
        if let Some(damage) = replay.segment(number)? {
            return Ok((replay.end(), Some(damage)));
        }
    }
    Ok(replay.whole())
}

struct Replay<'a> {
    place: &'a Place,
    segments: &'a [u32],
    mark: Mark,
    salt: u64,
    index: Index,
    last: Option<u64>,
    synced: u64,
    frames: u64,
}

impl Replay<'_> {
    fn end(self) -> Replayed {
        Replayed {
            index: self.index,
            last: self.last.unwrap_or(0),
            frames: self.frames,
        }
    }

    /// The end of the last segment was reached; what was acknowledged may be missing all the same.
    fn whole(self) -> (Replayed, Option<Damage>) {
        let last = self.last.unwrap_or(0);
        let damage = (last < self.mark.synced).then(|| {
            let newest = self.segments.last().copied().unwrap_or(1);
            Damage {
                segment: newest,
                at: self.index.segments.get(&newest).map_or(0, |it| it.bytes),
                last,
                acknowledged: self.mark.synced,
                next: None,
                rest: self.segments.last().copied().into_iter().collect(),
            }
        });
        (self.end(), damage)
    }

    fn segment(&mut self, number: u32) -> Result<Option<Damage>, OpenError> {
        let path = self.place.segment(number);
        let io = |error| OpenError::io(&path, "read the log")(error);
        if self.segments.binary_search(&number).is_err() {
            return self.damage(number, 0).map(Some);
        }
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io)?;
        let mut reader = Reader::new(&file, number, self.salt).map_err(io)?;
        let bytes = reader.bytes;
        let first = reader.first_batch().map_err(io)?;
        let sound = match (first, self.last) {
            (Some(first), Some(last)) => first == last + 1,
            (Some(first), None) => first > 0,
            (None, _) => false,
        };
        if !sound {
            return self.damage(number, 0).map(Some);
        }
        let mut last = self.last.or(first.map(|first| first - 1)).unwrap_or(0);
        let file = Arc::new(file);
        self.index.segments.insert(
            number,
            Segment {
                file: Arc::clone(&file),
                path: path.clone(),
                bytes,
                live_bytes: 0,
                live_rows: 0,
            },
        );
        let mut reader = Reader::new(&file, number, self.salt).map_err(io)?;
        let mut at = HEAD_BYTES as u64;
        while at < bytes {
            let Some(header) = self.frame(&mut reader, number, at, last).map_err(io)? else {
                self.last = Some(last);
                return self.damage(number, at).map(Some);
            };
            last = header.batch;
            at += header.frame_bytes();
        }
        self.last = Some(last);
        Ok(None)
    }

    /// Applies the frame at `at`; `None` when it is not whole.
    fn frame(
        &mut self,
        reader: &mut Reader<'_>,
        number: u32,
        at: u64,
        last: u64,
    ) -> std::io::Result<Option<Header>> {
        let Some(header) = reader.header(at)? else {
            return Ok(None);
        };
        let follows = match header.kind {
            Kind::Batch => header.batch == last + 1,
            Kind::Gap => header.batch > last,
        };
        // Behind what is known to be synced a write may have been torn anywhere.
        if !follows || (header.batch > self.mark.synced && !reader.is_whole(at, &header)?) {
            return Ok(None);
        }
        let values_at = at + HEADER_BYTES as u64 + u64::from(header.rows_bytes);
        let index = &mut self.index;
        let sound = reader.rows(at, &header, |row| index.apply(number, values_at, row))?;
        index.settle(number);
        if !sound {
            return Ok(None);
        }
        self.synced = self.synced.max(header.synced);
        self.frames += 1;
        Ok(Some(header))
    }

    /// Looks at what comes behind a place that cannot be read.
    fn damage(&self, number: u32, at: u64) -> Result<Damage, OpenError> {
        let last = self.last.unwrap_or(0);
        let mut damage = Damage {
            segment: number,
            at,
            last,
            acknowledged: self.synced,
            next: None,
            rest: self
                .segments
                .iter()
                .copied()
                .filter(|it| *it >= number)
                .collect(),
        };
        for later in damage.rest.clone() {
            let path = self.place.segment(later);
            let io = |error| OpenError::io(&path, "read the log")(error);
            let file = File::open(&path).map_err(io)?;
            let mut reader = Reader::new(&file, later, self.salt).map_err(io)?;
            let mut from = if later == number { at } else { 0 };
            while let Some((found, header)) = reader.find(from, last).map_err(io)? {
                damage.next.get_or_insert((later, found, header.batch));
                damage.acknowledged = damage.acknowledged.max(header.synced);
                from = found + header.frame_bytes();
            }
        }
        Ok(damage)
    }
}
