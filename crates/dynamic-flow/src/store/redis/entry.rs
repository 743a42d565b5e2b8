//! Entries of a partition's index: one sorted set whose members all have the score 0, so that they
//! sort by their bytes. Each is a kind, what is looked for, and the run's id; runs of one value so
//! stand in the order of their ids, which is that of their creation.
//!
//! A run that Redis may remove has one more, `x` and its id, from which the scripts know its others
//! when it is gone: see common.lua.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use crate::{
    clock::Timestamp,
    engine::RunStatus,
    id::{MAX_ID_BYTES, RunId},
    store::{Queue, WaitIndex},
    wait::{Metadata, Scalar},
};

/// A number in eight bytes that sort as numbers do. Scores could not: they are floating point.
pub(super) fn ordered(time: Timestamp) -> [u8; 8] {
    (time.as_millis() ^ i64::MIN).to_be_bytes()
}

/// Undoes [`ordered`].
pub(super) fn unordered(bytes: &[u8]) -> Option<Timestamp> {
    let bytes: [u8; 8] = bytes.try_into().ok()?;
    Some(Timestamp::from_millis(i64::from_be_bytes(bytes) ^ i64::MIN))
}

/// A status in one byte.
pub(super) fn code(status: RunStatus) -> u8 {
    match status {
        RunStatus::Waiting => b'w',
        RunStatus::Ready => b'y',
        RunStatus::Running => b'r',
        RunStatus::Completed => b'C',
        RunStatus::Rejected => b'R',
        RunStatus::Failed => b'F',
        RunStatus::Expired => b'E',
        RunStatus::Cancelled => b'X',
    }
}

/// Undoes [`code`]. Capitals are final statuses: the scripts rely on that.
pub(super) fn status(code: &[u8]) -> Option<RunStatus> {
    let &[code] = code else { return None };
    RunStatus::ALL.into_iter().find(|status| self::code(*status) == code)
}

/// What the entries of runs of that status begin with. It is followed by the id, as in all others.
pub(super) fn of_status(status: RunStatus) -> Vec<u8> {
    vec![b's', code(status)]
}

/// What the entries of runs of that flow and status begin with.
pub(super) fn of_flow(flow: &str, status: RunStatus) -> Vec<u8> {
    [b"f", flow.as_bytes(), &[0, code(status)]].concat()
}

/// What the entries of runs that wait for that tool begin with.
pub(super) fn of_tool(tool: &str) -> Vec<u8> {
    [b"t", &*text(tool, MAX_ID_BYTES)].concat()
}

/// What the entries of runs with that metadata begin with.
pub(super) fn of_metadata(name: &str, value: &Scalar) -> Vec<u8> {
    let name = [b"m", name.as_bytes(), &[0]].concat();
    // None begins with another: those of one kind have one length, or end with a zero.
    match value {
        Scalar::Bool(value) => [&name[..], &[b'b', u8::from(*value)]].concat(),
        Scalar::Int(value) => [&name[..], b"i", &value.to_be_bytes()].concat(),
        // Adding zero makes -0.0, which equals 0.0, have the bits of 0.0.
        Scalar::Float(value) => [&name[..], b"f", &(value + 0.0).to_bits().to_be_bytes()].concat(),
        Scalar::Text(value) => [name, text(value, 32)].concat(),
    }
}

/// A text; its digest where that is shorter, and as good.
fn text(text: &str, longest: usize) -> Vec<u8> {
    if text.len() <= longest {
        [b"t", text.as_bytes(), &[0]].concat()
    } else {
        [&b"h"[..], &Sha256::digest(text)].concat()
    }
}

/// What the entries of runs with a wait that ends at that time begin with.
pub(super) fn of_deadline(time: Timestamp) -> Vec<u8> {
    [&b"e"[..], &ordered(time)].concat()
}

/// What the entries of runs with a wait that ends at some time are: those that have none, as ended
/// ones, are passed over where deadlines matter.
pub(super) fn of_any_deadline() -> Vec<u8> {
    b"o".to_vec()
}

/// What the entries of runs in that queue begin with; it is followed by when they are due, by the
/// end of their lease (the first of all times without one), and by the id.
pub(super) fn of_queue(queue: &Queue) -> Vec<u8> {
    [b"d", queue.0.as_bytes(), &[0]].concat()
}

/// The first entry from which others of a run that Redis may remove are known, and the first that is
/// none of them, as Redis writes ranges. What comes first in it is short.
pub(super) fn mark_range(id: RunId) -> (Vec<u8>, Vec<u8>) {
    let beginning = [b"x", &id.as_bytes()[..]].concat();
    ([b"[", &*beginning].concat(), [b"(", &*beginning, &[0xff]].concat())
}

/// The id at the end of an entry.
pub(super) fn id_of(entry: &[u8]) -> Option<RunId> {
    entry.last_chunk().copied().map(RunId::from_bytes)
}

/// When the run of a queue's entry is due, and when its lease ends.
pub(super) fn due_of(entry: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let tail: &[u8; 32] = entry.last_chunk()?;
    Some((unordered(&tail[..8])?, unordered(&tail[8..16])?))
}

/// The beginnings of a run's entries that follow from its waits, as [`pack`] makes them.
pub(super) fn of_waits(waits: &[WaitIndex]) -> Vec<u8> {
    let tools = waits.iter().map(|wait| of_tool(wait.tool_id.as_str()));
    let deadlines = || waits.iter().filter_map(|wait| wait.expires_at);
    let any = deadlines().next().map(|_| of_any_deadline());
    pack(tools.chain(deadlines().map(of_deadline)).chain(any))
}

/// The beginnings of a run's entries that follow from its metadata.
pub(super) fn of_all_metadata(metadata: &Metadata) -> Vec<u8> {
    pack(metadata.iter().map(|(name, value)| of_metadata(name, value)))
}

/// Puts beginnings of entries into one text, each after its length in a byte: what a script needs
/// to find them again when they are removed. Each is there once.
fn pack(entries: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let entries: BTreeSet<_> = entries.collect();
    let mut packed = Vec::new();
    for entry in entries {
        packed.push(u8::try_from(entry.len()).expect("names and texts in entries have bounds"));
        packed.extend(entry);
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sort_as_bytes() {
        let numbers = [i64::MIN, i64::MIN + 1, -1, 0, 1, (1 << 53) + 1, i64::MAX - 1, i64::MAX];
        let times = numbers.map(Timestamp::from_millis);
        assert!(times.windows(2).all(|pair| ordered(pair[0]) < ordered(pair[1])));
        assert!(times.iter().all(|time| unordered(&ordered(*time)) == Some(*time)));
    }

    #[test]
    fn statuses_are_told_apart_and_capitals_are_final() {
        for known in RunStatus::ALL {
            assert_eq!(status(&[code(known)]), Some(known));
            assert_eq!(code(known).is_ascii_uppercase(), known.is_final());
        }
        assert_eq!((status(b"z"), status(b""), status(b"ww")), (None, None, None));
    }

    #[test]
    fn no_beginning_begins_with_another() {
        let scalars: Vec<Scalar> = vec![
            1.into(),
            256.into(),
            1.0.into(),
            "".into(),
            "1".into(),
            "12".into(),
            true.into(),
            0.0.into(),
            "t".repeat(32).into(),
            "t".repeat(33).into(),
            "t".repeat(34).into(),
        ];
        let terms: Vec<_> = scalars.iter().map(|scalar| of_metadata("n", scalar)).collect();
        for (a, term) in terms.iter().enumerate() {
            for (b, other) in terms.iter().enumerate() {
                assert_eq!(a == b, other.starts_with(term), "{a} and {b}");
            }
        }
        assert_eq!(of_metadata("n", &(-0.0).into()), of_metadata("n", &0.0.into()));
        assert!(!of_flow("ab", RunStatus::Failed).starts_with(&of_flow("a", RunStatus::Failed)));
        assert!(!of_tool("ab").starts_with(&of_tool("a")));
    }

    #[test]
    fn the_longest_names_are_packed() {
        let metadata = Metadata::from([("n".repeat(128), "t".repeat(4096).into())]);
        assert_eq!(of_all_metadata(&metadata).len(), 1 + 1 + 128 + 1 + 1 + 32);
        assert_eq!(of_tool(&"t".repeat(128)).len(), 1 + 1 + 128 + 1);
        assert_eq!(of_tool(&"t".repeat(9999)).len(), 1 + 1 + 32);
    }
}
