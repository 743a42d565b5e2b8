//! Records as hashes, and back.
//!
//! | field | what is in it |
//! | --- | --- |
//! | `rev`, `ep`, `try` | revision, epoch, attempts, as digits |
//! | `flow`, `q` | flow id; queue, if there is one |
//! | `st` | the status in one letter |
//! | `w`, `m` | waits and metadata, as JSON |
//! | `wx`, `mx` | the beginnings of the index entries that follow from them |
//! | `at` | when it was written last, as digits |
//! | `due`, `own`, `til` | due time; owner and end of the lease; times that sort as bytes |
//! | `s` | the sealed snapshot |
//! | `from`, `to`, `in0`, `in1`, … | the places of the inbox, and its sealed items |
//!
//! What is not there is none. Names are short, since each run has them.

use std::collections::HashMap;

use redis::{Cmd, Value, cmd};

use super::{entry, reply, trouble::Trouble};
use crate::{
    clock::Timestamp,
    codec::Sealed,
    id::{Epoch, Revision, RunId},
    store::{Change, Lease, Queue, Record, Summary},
};

/// The most bytes that a value may have, unless the server is told otherwise.
const MAX_VALUE: usize = 512 << 20;

/// The fields of a record without its sealed parts.
const HEADER: [&str; 14] =
    ["rev", "ep", "try", "flow", "q", "st", "w", "m", "at", "due", "own", "til", "from", "to"];

/// Fields and their values.
pub(super) type Fields = Vec<(&'static str, Vec<u8>)>;

/// The fields of a record but for its inbox.
pub(super) fn fields(record: &Record) -> Result<Fields, Trouble> {
    let mut fields = vec![
        ("rev", digits(record.revision.0)),
        ("ep", digits(record.epoch.0)),
        ("try", digits(record.attempts)),
        ("flow", record.flow_id.as_str().into()),
        ("st", vec![entry::code(record.status)]),
        ("w", json(&record.waits, "w")?),
        ("wx", entry::of_waits(&record.waits)),
        ("m", json(&record.metadata, "m")?),
        ("mx", entry::of_all_metadata(&record.metadata)),
        ("at", digits(record.updated_at.as_millis())),
        ("s", sized(&record.snapshot)?),
    ];
    if let Some(queue) = &record.queue {
        fields.push(("q", queue.0.clone().into()));
    }
    if let Some(due_at) = record.due_at {
        fields.push(("due", entry::ordered(due_at).into()));
    }
    if let Some(lease) = &record.lease {
        fields.push(("own", lease.owner.clone().into()));
        fields.push(("til", entry::ordered(lease.until).into()));
    }
    Ok(fields)
}

/// The fields of an inbox, whose items begin at place 0.
pub(super) fn inbox(items: &[Sealed]) -> Result<Vec<(String, Vec<u8>)>, Trouble> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let places = [("from".to_owned(), digits(0)), ("to".to_owned(), digits(items.len()))];
    let items = items.iter().enumerate().map(|(n, item)| Ok((format!("in{n}"), sized(item)?)));
    places.into_iter().map(Ok).chain(items).collect()
}

/// The fields that a change sets, and those that it removes, but for those of the inbox.
pub(super) fn changes(change: &Change) -> Result<(Fields, Vec<&'static str>), Trouble> {
    let mut set: Fields = vec![("at", digits(change.updated_at.as_millis()))];
    let mut removed = Vec::new();
    if let Some(epoch) = change.epoch {
        set.push(("ep", digits(epoch.0)));
    }
    match &change.queue {
        Some(Some(queue)) => set.push(("q", queue.0.clone().into())),
        Some(None) => removed.push("q"),
        None => {}
    }
    if let Some(status) = change.status {
        set.push(("st", vec![entry::code(status)]));
    }
    if let Some(waits) = &change.waits {
        set.push(("w", json(waits, "w")?));
        set.push(("wx", entry::of_waits(waits)));
    }
    if let Some(metadata) = &change.metadata {
        set.push(("m", json(metadata, "m")?));
        set.push(("mx", entry::of_all_metadata(metadata)));
    }
    match change.due_at {
        Some(Some(due_at)) => set.push(("due", entry::ordered(due_at).into())),
        Some(None) => removed.push("due"),
        None => {}
    }
    if let Some(attempts) = change.attempts {
        set.push(("try", digits(attempts)));
    }
    match &change.lease {
        Some(Some(lease)) => {
            set.push(("own", lease.owner.clone().into()));
            set.push(("til", entry::ordered(lease.until).into()));
        }
        Some(None) => removed.extend(["own", "til"]),
        None => {}
    }
    if let Some(snapshot) = &change.snapshot {
        set.push(("s", sized(snapshot)?));
    }
    Ok((set, removed))
}

/// Asks for a record without its sealed parts.
pub(super) fn ask_for_header(key: &str) -> Cmd {
    let mut ask = cmd("HMGET");
    ask.arg(key).arg(&HEADER[..]);
    ask
}

/// Reads the reply to [`ask_for_header`]: a record whose sealed parts are left out, and how long
/// its inbox is; none if there is no record.
pub(super) fn header(id: RunId, reply: Value) -> Result<Option<(Record, usize)>, Trouble> {
    let values = reply::list(reply)?;
    let mut row = Row(HashMap::new());
    for (name, value) in HEADER.iter().zip(values) {
        if let Some(value) = reply::maybe_bytes(value)? {
            row.0.insert(name.as_bytes().to_vec(), value);
        }
    }
    if row.0.is_empty() {
        return Ok(None);
    }
    row.into_header(id).map(Some)
}

/// A header as queries list it.
pub(super) fn summary((record, inbox_len): (Record, usize)) -> Summary {
    Summary { inbox_len, ..Summary::from(&record) }
}

/// Reads all fields of a hash; none if there is none.
pub(super) fn record(id: RunId, reply: Value) -> Result<Option<Record>, Trouble> {
    let mut row = Row(HashMap::new());
    for (name, value) in reply::pairs(reply)? {
        row.0.insert(name, reply::bytes(value)?);
    }
    if row.0.is_empty() {
        return Ok(None);
    }
    let snapshot = Sealed(row.take("s").ok_or(Trouble::Damaged("s"))?);
    let from: usize = row.place("from")?;
    let mut items = HashMap::new();
    row.0.retain(|name, value| match name.strip_prefix(b"in") {
        Some(place) => {
            items.insert(place.to_vec(), std::mem::take(value));
            false
        }
        None => true,
    });
    let (mut record, length) = row.into_header(id)?;
    record.snapshot = snapshot;
    let item = |place| items.remove(&digits(place)).map(Sealed).ok_or(Trouble::Damaged("in"));
    record.inbox = (from..from + length).map(item).collect::<Result<_, _>>()?;
    Ok(Some(record))
}

/// The fields of a hash.
struct Row(HashMap<Vec<u8>, Vec<u8>>);

impl Row {
    fn take(&mut self, name: &str) -> Option<Vec<u8>> {
        self.0.remove(name.as_bytes())
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, Trouble> {
        let text = self.take(name).map(String::from_utf8).transpose();
        text.map_err(|_| Trouble::Damaged(name))
    }

    fn number<T: std::str::FromStr>(&mut self, name: &'static str) -> Result<T, Trouble> {
        let number = self.text(name)?.and_then(|digits| digits.parse().ok());
        number.ok_or(Trouble::Damaged(name))
    }

    /// A place in the inbox, which begins at 0 where there is none.
    fn place(&self, name: &'static str) -> Result<usize, Trouble> {
        let Some(digits) = self.0.get(name.as_bytes()) else { return Ok(0) };
        let digits = std::str::from_utf8(digits).ok();
        digits.and_then(|digits| digits.parse().ok()).ok_or(Trouble::Damaged(name))
    }

    fn time(&mut self, name: &'static str) -> Result<Option<Timestamp>, Trouble> {
        let Some(bytes) = self.take(name) else { return Ok(None) };
        entry::unordered(&bytes).map(Some).ok_or(Trouble::Damaged(name))
    }

    fn json<T: serde::de::DeserializeOwned>(&mut self, name: &'static str) -> Result<T, Trouble> {
        let text = self.take(name).ok_or(Trouble::Damaged(name))?;
        serde_json::from_slice(&text).map_err(|_| Trouble::Damaged(name))
    }

    fn into_header(mut self, id: RunId) -> Result<(Record, usize), Trouble> {
        let (from, to) = (self.place("from")?, self.place("to")?);
        let length = to.checked_sub(from).ok_or(Trouble::Damaged("to"))?;
        let status = self.take("st").ok_or(Trouble::Damaged("st"))?;
        let owner = self.text("own")?;
        let until = self.time("til")?;
        let record = Record {
            id,
            revision: Revision(self.number("rev")?),
            epoch: Epoch(self.number("ep")?),
            flow_id: self.text("flow")?.ok_or(Trouble::Damaged("flow"))?.into(),
            queue: self.text("q")?.map(Queue),
            status: entry::status(&status).ok_or(Trouble::Damaged("st"))?,
            waits: self.json("w")?,
            metadata: self.json("m")?,
            updated_at: Timestamp::from_millis(self.number("at")?),
            due_at: self.time("due")?,
            attempts: self.number("try")?,
            lease: owner.zip(until).map(|(owner, until)| Lease { owner, until }),
            snapshot: Sealed(Vec::new()),
            inbox: Vec::new(),
        };
        Ok((record, length))
    }
}

/// A number as text.
pub(super) fn digits(number: impl ToString + Copy) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn json<T: serde::Serialize>(value: &T, field: &'static str) -> Result<Vec<u8>, Trouble> {
    serde_json::to_vec(value).map_err(|_| Trouble::Damaged(field))
}

/// Sealed bytes, unless there are more of them than the server takes.
pub(super) fn sized(sealed: &Sealed) -> Result<Vec<u8>, Trouble> {
    if sealed.0.len() > MAX_VALUE {
        return Err(Trouble::TooLarge(MAX_VALUE));
    }
    Ok(sealed.0.clone())
}
