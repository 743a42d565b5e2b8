//! The names of keys: which partition a run belongs to, and which slot of a cluster that is.

use crate::id::RunId;

/// How many slots a cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// The names of all keys of a store.
#[derive(Debug)]
pub(super) struct Keys {
    /// Holds the layout of what is stored under the prefix.
    pub(super) marker: String,
    /// On which hints are given. Channels are not of a database, so the database is in its name.
    pub(super) channel: String,
    pub(super) partitions: Vec<Partition>,
    /// What the names of all keys begin with.
    prefix: String,
}

/// A part of the runs whose keys are all in one slot, so that one script may use several of them.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) slot: u16,
    /// The sorted set of all index entries.
    pub(super) index: String,
    /// What the keys of records begin with.
    record: String,
    /// Written and removed again to find out whether this user may.
    pub(super) probe: String,
}

impl Keys {
    pub(super) fn new(prefix: &str, db: u32, partitions: u16) -> Self {
        let partition = |tag| Partition {
            slot: slot(format!("{tag}").as_bytes()),
            index: format!("{prefix}{{{tag}}}:index"),
            record: format!("{prefix}{{{tag}}}:run:"),
            probe: format!("{prefix}{{{tag}}}:probe"),
        };
        Self {
            marker: format!("{prefix}layout"),
            channel: format!("{prefix}hints:{db}"),
            partitions: tags(partitions).into_iter().map(partition).collect(),
            prefix: prefix.to_owned(),
        }
    }

    /// The number of the partition to which a run belongs.
    pub(super) fn of(&self, id: RunId) -> usize {
        usize::from(crc16(id.as_bytes())) % self.partitions.len()
    }

    /// A pattern that the keys of all records match.
    pub(super) fn records(&self) -> String {
        let mut pattern = String::new();
        for c in self.prefix.chars() {
            if "*?[]\\^-".contains(c) {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern + "{*}:run:*"
    }

    /// The run whose record has that key; none if it is none of this store.
    pub(super) fn run_of(&self, key: &[u8]) -> Option<RunId> {
        let key = std::str::from_utf8(key).ok()?;
        let run = key.rsplit_once(':')?.1.parse().ok()?;
        (self.partitions[self.of(run)].record(run) == key).then_some(run)
    }
}

impl Partition {
    /// The key of a run's record.
    pub(super) fn record(&self, id: RunId) -> String {
        format!("{}{id}", self.record)
    }
}

/// The slot of a key that has no hash tag, or of a hash tag.
pub(super) fn slot(tag: &[u8]) -> u16 {
    crc16(tag) % SLOTS
}

/// So many numbers whose slots lie evenly among all slots, so that the servers of a cluster, each
/// of which usually has a run of them, get an even share of the runs.
fn tags(count: u16) -> Vec<u32> {
    let mut tags = vec![None; usize::from(count)];
    let mut open = tags.len();
    for number in 0.. {
        let slot = usize::from(slot(number.to_string().as_bytes()));
        let place = &mut tags[slot * usize::from(count) / usize::from(SLOTS)];
        if place.is_none() {
            *place = Some(number);
            open -= 1;
            if open == 0 {
                break;
            }
        }
    }
    tags.into_iter().flatten().collect()
}

/// CRC-16/XMODEM: what Redis Cluster derives slots from.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 { shifted } else { shifted ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // The check value of CRC-16/XMODEM, and what `CLUSTER KEYSLOT foo` says.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
    }

    #[test]
    fn partitions_lie_evenly_and_stay_where_they_are() {
        for count in [1, 2, 3, 16, 256] {
            let keys = Keys::new("p:", 0, count);
            let slots: Vec<_> = keys.partitions.iter().map(|it| it.slot).collect();
            let bands: BTreeSet<_> = slots
                .iter()
                .map(|slot| usize::from(*slot) * usize::from(count) / usize::from(SLOTS))
                .collect();
            assert_eq!(bands.len(), usize::from(count));
        }
        // Data that is stored somewhere is looked for there by every later version.
        let keys = Keys::new("p:", 3, 4);
        let indexes: Vec<_> = keys.partitions.iter().map(|it| it.index.as_str()).collect();
        assert_eq!(indexes, ["p:{3}:index", "p:{2}:index", "p:{1}:index", "p:{0}:index"]);
        let id = RunId::from_bytes([7; 16]);
        let record = keys.partitions[keys.of(id)].record(id);
        assert_eq!(record, "p:{2}:run:07070707-0707-0707-0707-070707070707");
        assert_eq!(keys.run_of(record.as_bytes()), Some(id));
        assert_eq!(keys.run_of(record.replace('2', "1").as_bytes()), None, "that of another store");
        assert_eq!(Keys::new("a*[b]\\:", 0, 1).records(), "a\\*\\[b\\]\\\\:{*}:run:*");
        assert_eq!((keys.marker.as_str(), keys.channel.as_str()), ("p:layout", "p:hints:3"));
    }
}
