//! Which writes the planted store takes, and what it makes of them.

use dynamic_flow::{
    Revision, Scalar,
    codec::Sealed,
    store::{Change, Expect, Record},
};

use super::{Bug, Planted};

impl Planted {
    /// The record as this store keeps it.
    pub(super) fn keep(&self, mut record: Record) -> Record {
        match self.bug {
            Bug::EmptyQueueIsNone => {
                record.queue = record.queue.filter(|queue| !queue.0.is_empty());
            }
            Bug::TextIsTrimmed => record.flow_id = record.flow_id.as_str().trim().into(),
            Bug::TextIsLowered => record.flow_id = record.flow_id.as_str().to_lowercase().into(),
            Bug::BytesEndAtZero => {
                let end = record.snapshot.0.iter().position(|byte| *byte == 0);
                record.snapshot.0.truncate(end.unwrap_or(usize::MAX));
            }
            Bug::BytesAreText => {
                let text = String::from_utf8_lossy(&record.snapshot.0).into_owned();
                record.snapshot = Sealed(text.into_bytes());
            }
            // As a format has it in which all bits set say that a longer length follows.
            Bug::LengthIsASign if record.snapshot.0.len() == 65_535 => record.snapshot.0.clear(),
            Bug::SnapshotIsCut => record.snapshot.0.truncate(1 << 20),
            Bug::NumbersAreFloats => {
                for value in record.metadata.values_mut() {
                    if let Scalar::Int(number) = value {
                        *number = *number as f64 as i64;
                    }
                }
            }
            _ => {}
        }
        record
    }

    pub(super) fn apply(&self, mut change: Change, record: &mut Record) {
        let before = record.clone();
        if self.is(Bug::ClearingIsIgnored) {
            change.due_at = change.due_at.filter(Option::is_some);
        }
        if self.is(Bug::AbsentMeansCleared) {
            change.lease = Some(change.lease.flatten());
        }
        match self.bug {
            Bug::InboxGrowsAtTheFront if change.inbox.is_none() => {
                let kept = record.inbox.drain(..).skip(change.inbox_drop);
                change.inbox = Some(change.inbox_push.drain(..).chain(kept).collect());
            }
            Bug::InboxDropsTheNewest if change.inbox.is_none() => {
                let kept = record.inbox.len().saturating_sub(change.inbox_drop);
                record.inbox.truncate(kept);
                change.inbox_drop = 0;
            }
            Bug::InboxDropsAfterPush if change.inbox.is_none() => {
                record.inbox.append(&mut change.inbox_push);
            }
            Bug::InboxIsASet => change.inbox_push.dedup(),
            Bug::OperatorsAreDropped => {
                if let Some(metadata) = &mut change.metadata {
                    metadata.retain(|name, _| !name.starts_with('$'));
                }
            }
            Bug::InboxReplacedAndPushed => {
                if let Some(inbox) = &mut change.inbox {
                    inbox.append(&mut change.inbox_push);
                }
            }
            _ => {}
        }
        change.apply(record);
        match self.bug {
            Bug::UpdateKeepsRevision => record.revision = before.revision,
            Bug::RevisionIsFloat => {
                record.revision = Revision((before.revision.0 as f64 + 1.0) as u64);
            }
            Bug::EpochGoesBack => record.epoch = before.epoch,
            _ => {}
        }
        *record = self.keep(record.clone());
    }

    pub(super) fn expected(&self, found: Option<&Record>, expect: Expect) -> bool {
        let Some(record) = found else { return false };
        match (self.bug, expect) {
            (Bug::UpdateIgnoresRevision, _) => true,
            (Bug::UpdateTakesLaterRevisions, Expect::Revision(revision)) => {
                record.revision <= revision
            }
            _ => expect.admits(record.revision),
        }
    }
}
