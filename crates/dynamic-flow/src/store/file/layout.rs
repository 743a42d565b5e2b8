//! Where things are in the folder, and what their names say.
//!
//! ```text
//! dynamic-flow-store.json                         what this folder is, and of which version
//! runs/<time>/<run>.json                          a record
//! runs/<time>/<run>.lease                         the end of its lease, since that was renewed
//! runs/<time>/<run>~                              a mark: that there is a run, whatever it is
//! runs/<time>/<run>~<status>~<flow>~<deadlines>~<tools>   a hint: what its plain columns are
//! due/<queue>/<hours>/<seconds>/<time>~<run>      a hint: when it is due
//! locks/<shard>  locks/<shard>.seed  locks/<shard>.spare  tmp/<part>/<run>.<kind>  boots/<boot>
//! ```
//!
//! No text that users choose is part of a name: ids of flows and tools and names of queues are
//! hashed. Hints and marks are empty files, all of a shard names of one file; they are made before
//! the record that they are about and checked against it when they are used.
//!
//! A mark keeps its name for as long as there is the run: names that come while somebody lists a
//! folder may be missed, and there are file systems on which a record that is written gets its name
//! anew. Where there is none such, there are no marks.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use sha2::{Digest as _, Sha256};

use crate::{
    clock::Timestamp,
    id::RunId,
    store::{Filter, Queue, Record, place::keeps_names},
};

/// How many locks the records share.
pub(super) const SHARDS: u8 = 64;

/// The names in the folder.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
    /// Whether runs have marks, once that was asked.
    marks: OnceLock<bool>,
}

impl Layout {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, marks: OnceLock::new() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn marker(&self) -> PathBuf {
        self.root.join(MARKER)
    }

    pub(super) fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    pub(super) fn due(&self) -> PathBuf {
        self.root.join("due")
    }

    pub(super) fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(super) fn boots(&self) -> PathBuf {
        self.root.join("boots")
    }

    /// The lock of all records that share it with this one.
    pub(super) fn shard(&self, id: RunId) -> PathBuf {
        let shard = id.as_bytes()[15] % SHARDS;
        self.locks().join(format!("{shard:02x}"))
    }

    /// The empty file that the hints of a shard's records are other names of. Only who holds the
    /// shard's lock touches it.
    pub(super) fn seed(&self, id: RunId) -> PathBuf {
        self.shard(id).with_extension("seed")
    }

    /// What a record of the shard was before it was written last: the file that the next is written
    /// in. Only who holds the shard's lock touches it.
    pub(super) fn spare(&self, id: RunId) -> PathBuf {
        self.shard(id).with_extension("spare")
    }

    /// The spare files of all shards, each with the lock that it is under.
    pub(super) fn spares(&self) -> impl Iterator<Item = (PathBuf, PathBuf)> + '_ {
        (0..SHARDS).map(|shard| {
            let lock = self.locks().join(format!("{shard:02x}"));
            (lock.with_extension("spare"), lock)
        })
    }

    /// Tells by its age when the due index was last tidied.
    pub(super) fn tidied(&self) -> PathBuf {
        self.locks().join("tidied")
    }

    /// The folder of the records created in the same 4.7 hours.
    pub(super) fn bucket(&self, id: RunId) -> PathBuf {
        self.runs().join(bucket_name(bucket_of(id)))
    }

    pub(super) fn record(&self, id: RunId) -> PathBuf {
        self.bucket(id).join(format!("{id}{RECORD}"))
    }

    pub(super) fn lease(&self, id: RunId) -> PathBuf {
        self.bucket(id).join(format!("{id}{LEASE}"))
    }

    /// The name of a run that never changes; none where that of its record does not either.
    pub(super) fn mark(&self, id: RunId) -> Option<PathBuf> {
        self.has_marks().then(|| self.bucket(id).join(format!("{id}{MARK}")))
    }

    /// Whether runs have marks here. Names cost who lists a folder time, so there are no more than it
    /// takes.
    pub(super) fn has_marks(&self) -> bool {
        *self.marks.get_or_init(|| !keeps_names(&self.root))
    }

    #[cfg(test)]
    pub(super) fn set_marks(&self, has: bool) {
        self.marks.set(has).unwrap();
    }

    /// Where a record is written before it gets its name. Only who holds the lock writes there.
    ///
    /// In one of several folders: files are made in a folder one after the other.
    pub(super) fn temp(&self, id: RunId, kind: &str) -> PathBuf {
        let folder = format!("{:x}", id.as_bytes()[15] % 16);
        self.tmp().join(folder).join(format!("{id}{kind}"))
    }

    /// The hint of what a record's plain columns are.
    pub(super) fn columns_hint(&self, record: &Record) -> PathBuf {
        self.bucket(record.id).join(columns_name(record))
    }

    /// The folder of a queue's hints.
    pub(super) fn queue(&self, queue: &Queue) -> PathBuf {
        self.due().join(hash(&queue.0, 16))
    }

    /// The hint of when a record is due, if a worker may ever claim it.
    pub(super) fn due_hint(&self, record: &Record) -> Option<PathBuf> {
        let (queue, at) = (record.queue.as_ref()?, record.due_at?);
        let hours = format!("{:011x}", due_hours(at));
        let seconds = format!("{:013x}", due_seconds(at));
        let name = format!("{:016x}~{}", sortable(at), record.id);
        Some(self.queue(queue).join(hours).join(seconds).join(name))
    }
}

pub(super) const MARKER: &str = "dynamic-flow-store.json";
pub(super) const RECORD: &str = ".json";
pub(super) const LEASE: &str = ".lease";
const MARK: &str = "~";

/// The first 24 bits of an id: its time in units of 4.7 hours.
pub(super) fn bucket_of(id: RunId) -> u32 {
    let [a, b, c, ..] = *id.as_bytes();
    u32::from_be_bytes([0, a, b, c])
}

pub(super) fn bucket_name(bucket: u32) -> String {
    format!("{bucket:06x}")
}

/// What [`bucket_name`] wrote.
pub(super) fn parse_bucket(name: &str) -> Option<u32> {
    u32::try_from(parse_hex(name, 6)?).ok()
}

/// A time as a number that sorts as it does, times before 1970 too.
fn sortable(at: Timestamp) -> u64 {
    at.as_millis().cast_unsigned() ^ (1 << 63)
}

/// The time in units of 2.3 hours: few enough to list those of years.
pub(super) fn due_hours(at: Timestamp) -> u64 {
    sortable(at) >> 23
}

/// The time in units of 8.2 seconds: what is due later is, but for the last of them, never listed.
pub(super) fn due_seconds(at: Timestamp) -> u64 {
    sortable(at) >> 13
}

/// Digits of the time units in the due index.
pub(super) const HOURS_DIGITS: usize = 11;
pub(super) const SECONDS_DIGITS: usize = 13;

/// A number of so many lower-case hexadecimal digits.
pub(super) fn parse_hex(name: &str, digits: usize) -> Option<u64> {
    let plain = name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (name.len() == digits && plain).then(|| u64::from_str_radix(name, 16).ok())?
}

/// The time and the run of a hint of the due index.
pub(super) fn parse_due(name: &str) -> Option<(Timestamp, RunId)> {
    let (at, id) = name.split_once('~')?;
    let at = (parse_hex(at, 16)? ^ (1 << 63)).cast_signed();
    Some((Timestamp::from_millis(at), parse_id(id)?))
}

/// An id as it is displayed, and in no other spelling.
pub(super) fn parse_id(text: &str) -> Option<RunId> {
    let text = text.as_bytes();
    if text.len() != 36 {
        return None;
    }
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (at, &c) in text.iter().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if c != b'-' {
                return None;
            }
            continue;
        }
        let digit = match c {
            b'0'..=b'9' => c - b'0',
            b'a'..=b'f' => c - b'a' + 10,
            _ => return None,
        };
        bytes[digits / 2] = bytes[digits / 2] << 4 | digit;
        digits += 1;
    }
    Some(RunId::from_bytes(bytes))
}

/// What a name in a folder of records is.
#[derive(Debug, PartialEq)]
pub(super) enum Name<'a> {
    Record,
    Lease,
    Mark,
    Columns(Columns<'a>),
}

/// Reads a name in a folder of records; none if it is not one of ours.
pub(super) fn parse_name(name: &str) -> Option<(RunId, Name<'_>)> {
    let (id, rest) = name.split_at_checked(36)?;
    let id = parse_id(id)?;
    let name = match rest {
        RECORD => Name::Record,
        LEASE => Name::Lease,
        MARK => Name::Mark,
        _ => Name::Columns(Columns::parse(rest.strip_prefix('~')?)?),
    };
    Some((id, name))
}

/// More tools than this are not listed in a hint.
const MAX_TOOLS: usize = 6;

fn columns_name(record: &Record) -> String {
    let ends = || record.waits.iter().filter_map(|wait| wait.expires_at);
    let deadlines = match (ends().min(), ends().max()) {
        (Some(first), Some(last)) => format!("{}~{}", first.as_millis(), last.as_millis()),
        _ => "~".into(),
    };
    let mut tools: Vec<String> =
        record.waits.iter().map(|wait| hash(wait.tool_id.as_str(), 6)).collect();
    tools.sort_unstable();
    tools.dedup();
    let tools = if tools.len() > MAX_TOOLS { "*".into() } else { tools.join(".") };
    let flow = hash(record.flow_id.as_str(), 8);
    format!("{}~{}~{flow}~{deadlines}~{tools}", record.id, record.status)
}

/// What a hint says of a record.
#[derive(Debug, PartialEq)]
pub(super) struct Columns<'a> {
    status: &'a str,
    flow: &'a str,
    deadlines: Option<(i64, i64)>,
    tools: &'a str,
}

impl<'a> Columns<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split('~');
        let (status, flow) = (parts.next()?, parts.next()?);
        let deadlines = match (parts.next()?, parts.next()?) {
            ("", "") => None,
            (first, last) => Some((first.parse().ok()?, last.parse().ok()?)),
        };
        let tools = parts.next()?;
        parts.next().is_none().then_some(Self { status, flow, deadlines, tools })
    }
}

/// A filter in the terms of hints.
#[derive(Debug)]
pub(super) struct Wanted {
    status: Vec<&'static str>,
    flow: Option<String>,
    tool: Option<String>,
    concerns_waits: bool,
    expires_after: i64,
    expires_before: Option<i64>,
}

impl Wanted {
    pub(super) fn new(filter: &Filter) -> Self {
        Self {
            status: filter.status.iter().map(|status| status.as_str()).collect(),
            flow: filter.flow_id.as_ref().map(|id| hash(id.as_str(), 8)),
            tool: filter.tool_id.as_ref().map(|id| hash(id.as_str(), 6)),
            concerns_waits: filter.expires_after.is_some() || filter.expires_before.is_some(),
            expires_after: filter.expires_after.map_or(i64::MIN, Timestamp::as_millis),
            expires_before: filter.expires_before.map(Timestamp::as_millis),
        }
    }

    /// Whether the record may match; if not, it does not as long as the hint is right.
    pub(super) fn may_match(&self, hint: &Columns<'_>) -> bool {
        let in_time = || {
            hint.deadlines.is_some_and(|(first, last)| {
                last >= self.expires_after && self.expires_before.is_none_or(|end| first < end)
            })
        };
        let has_tool = |tool: &str| hint.tools == "*" || hint.tools.split('.').any(|t| t == tool);
        (self.status.is_empty() || self.status.contains(&hint.status))
            && self.flow.as_deref().is_none_or(|flow| flow == hint.flow)
            && self.tool.as_deref().is_none_or(has_tool)
            && (!self.concerns_waits || in_time())
    }
}

/// The first digits of a text's SHA-256.
fn hash(text: &str, digits: usize) -> String {
    let mut hex = hex::encode(Sha256::digest(text));
    hex.truncate(digits);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sort_as_their_names_do() {
        let times = [i64::MIN, -1, 0, 1, 1_795_420_800_000, i64::MAX].map(Timestamp::from_millis);
        assert!(times.is_sorted_by_key(|at| format!("{:016x}", sortable(*at))));
        let id = RunId::from_bytes([0xab; 16]);
        for at in times {
            assert_eq!(parse_due(&format!("{:016x}~{id}", sortable(at))), Some((at, id)));
            assert!(format!("{:x}", due_hours(at)).len() <= HOURS_DIGITS);
            assert!(format!("{:x}", due_seconds(at)).len() <= SECONDS_DIGITS);
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = "019ab3c4-d5e6-7f80-9a1b-2c3d4e5f6071";
        assert_eq!(parse_id(id), Some(id.parse().unwrap()));
        let upper = id.to_uppercase();
        let simple = id.replace('-', "");
        for other in [&*upper, &simple, &id[1..], "", &id.replace('-', "0"), &id.replace('0', "g")]
        {
            assert_eq!(parse_id(other), None, "{other}");
        }
    }

    #[test]
    fn a_name_that_is_not_ours_is_nothing() {
        let id = "019ab3c4-d5e6-7f80-9a1b-2c3d4e5f6071";
        for rest in ["", ".jsonx", "~~", "~waiting", "~waiting~00~1~2", "~w~0~x~2~a", "~w~0~~~a~b"]
        {
            assert_eq!(parse_name(&format!("{id}{rest}")), None, "{rest}");
        }
        for rest in [".json", ".lease", "~", "~w~0~~~", "~w~0~-1~2~a.b"] {
            assert!(parse_name(&format!("{id}{rest}")).is_some(), "{rest}");
        }
        assert_eq!(parse_name("µ"), None);
        assert_eq!(parse_bucket("00000g"), None);
        assert_eq!(parse_bucket("0000001"), None);
        assert_eq!(parse_bucket("00ffFF"), None);
        assert_eq!(parse_bucket("00ffff"), Some(0xffff));
    }
}
