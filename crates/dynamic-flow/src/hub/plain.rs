//! The plain columns: what is written beside a sealed snapshot, and says what becomes of a run next.

use std::time::Duration;

use super::{Inner, vault::Opened};
use crate::{
    Result,
    clock::Timestamp,
    codec::{Binding, Codec, Part, Sealed},
    engine::{RunStatus, Snapshot},
    id::{Epoch, FlowId, Revision, RunId},
    store::{Change, Lease, Queue, Record, WaitIndex},
    wait::{Metadata, Wait},
};

/// How often the pause between two calls of a notifier doubles: up to about half an hour.
const MAX_NOTICE_DOUBLINGS: u32 = 11;

/// Who takes a run next, and when.
pub(super) struct Plain {
    status: RunStatus,
    queue: Option<Queue>,
    due_at: Option<Timestamp>,
    lease: Option<Lease>,
}

impl Plain {
    /// Of a run that goes on right after the commit.
    pub(super) fn running(queue: Queue, now: Timestamp, hub: &Inner) -> Self {
        let until = now.after(hub.options.lease);
        Self {
            status: RunStatus::Running,
            queue: Some(queue),
            due_at: Some(until),
            lease: Some(Lease { owner: hub.holder(), until }),
        }
    }

    /// Of a run that nobody drives after the commit.
    pub(super) fn parked(snapshot: &Snapshot, queue: Queue, now: Timestamp, hub: &Inner) -> Self {
        let status = snapshot.parked_status();
        if status.is_final() {
            let purge_at = hub.options.retention.map(|retention| now.after(retention));
            let queue = purge_at.map(|_| Queue::purge());
            return Self { status, queue, due_at: purge_at, lease: None };
        }
        let due_at = match status {
            RunStatus::Ready => Some(now),
            // A wait that nobody could be told of is tried again before its deadline.
            _ => [snapshot.due_at(), notice_at(snapshot, now, hub)].into_iter().flatten().min(),
        };
        Self { status, queue: Some(queue), due_at, lease: None }
    }

    /// Adds them to the write of a snapshot.
    pub(super) fn beside(self, written: Change) -> Change {
        Change {
            status: Some(self.status),
            queue: Some(self.queue),
            due_at: Some(self.due_at),
            lease: Some(self.lease),
            ..written
        }
    }
}

/// The write of a snapshot into which all was worked that the inbox has.
pub(super) fn worked_in(snapshot: &Snapshot, sealed: Sealed, now: Timestamp) -> Change {
    Change {
        waits: Some(snapshot.waits.iter().map(index_of).collect()),
        metadata: Some(plain_metadata(snapshot)),
        snapshot: Some(sealed),
        ..Change::at(now)
    }
}

/// The write of a snapshot that was changed outside of the engine: what was accepted for it stays.
pub(super) fn changed(
    opened: &Opened,
    sealed: Sealed,
    codec: &Codec,
    now: Timestamp,
) -> Result<Change> {
    let waits = opened.snapshot.waits.iter().map(|wait| opened.index(wait));
    Ok(Change {
        waits: Some(waits.collect()),
        inbox: Some(opened.carried_inbox(codec)?),
        ..worked_in(&opened.snapshot, sealed, now)
    })
}

/// The record of a run that is written for the first time.
pub(super) fn first_record(id: RunId, flow_id: FlowId, written: Change) -> Record {
    let mut record = Record {
        id,
        revision: Revision::FIRST,
        epoch: Epoch(1),
        flow_id,
        queue: None,
        status: RunStatus::Running,
        waits: Vec::new(),
        metadata: Metadata::new(),
        updated_at: written.updated_at,
        due_at: None,
        attempts: 0,
        lease: None,
        snapshot: Sealed(Vec::new()),
        inbox: Vec::new(),
    };
    written.apply(&mut record);
    Record { revision: Revision::FIRST, ..record }
}

impl Inner {
    /// Seals a snapshot that is written for the first time by something else than its driver.
    pub(super) fn seal_first(
        &self,
        snapshot: &mut Snapshot,
        plain: Plain,
        now: Timestamp,
    ) -> Result<Record> {
        snapshot.advance();
        let (run, flow) = (snapshot.run_id, snapshot.flow.id.clone());
        let binding = Binding { run, flow: &flow, part: Part::Snapshot };
        let sealed = self.codec.seal_state(snapshot, snapshot.sequence, binding)?;
        Ok(first_record(run, flow, plain.beside(worked_in(snapshot, sealed, now))))
    }
}

/// The plain columns of a wait.
pub(super) fn index_of(wait: &Wait) -> WaitIndex {
    WaitIndex {
        id: wait.id.clone(),
        tool_id: wait.tool_id.clone(),
        keys: wait.keys.clone(),
        created_at: wait.created_at,
        expires_at: wait.expires_at,
        has_default: wait.request.default.is_some(),
    }
}

/// The plain metadata of a run: its own, and those of its open waits, which hide its own of the same
/// name. A contract: what is stored is held against it.
pub(super) fn plain_metadata(snapshot: &Snapshot) -> Metadata {
    let mut metadata = snapshot.metadata.clone();
    for wait in &snapshot.waits {
        metadata.extend(wait.request.metadata.clone());
    }
    metadata
}

/// When a notifier is to be called again for a wait that it was not told of.
fn notice_at(snapshot: &Snapshot, now: Timestamp, hub: &Inner) -> Option<Timestamp> {
    let untold = snapshot.waits.iter().filter(|wait| !wait.notified);
    let failed = untold.map(|wait| wait.failed_notices).max()?;
    let doubled = match hub.notifier {
        Some(_) => failed.min(MAX_NOTICE_DOUBLINGS),
        None if failed == 0 => return None,
        // Left to who has a notifier, and not so soon that a worker without one is kept busy by it.
        None => MAX_NOTICE_DOUBLINGS,
    };
    Some(now.after(Duration::from_secs(1 << doubled)))
}
