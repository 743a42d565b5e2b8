//! A record as JSON.

use std::{borrow::Cow, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};

use super::disk::corrupt;
use crate::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    codec::Sealed,
    engine::RunStatus,
    id::{Epoch, FlowId, Revision, RunId},
    store::{Lease, MAX_COUNTER, Queue, Record, WaitIndex},
    wait::Metadata,
};

/// The version of the form that this build writes.
pub(super) const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Form<'a> {
    format: u32,
    id: RunId,
    revision: Revision,
    epoch: Epoch,
    flow_id: FlowId,
    queue: Option<Queue>,
    status: RunStatus,
    waits: Cow<'a, [WaitIndex]>,
    metadata: Cow<'a, Metadata>,
    updated_at: Timestamp,
    due_at: Option<Timestamp>,
    attempts: u32,
    lease: Option<Lease>,
    inbox: Cow<'a, [Sealed]>,
    #[serde(borrow)]
    snapshot: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// A record whose snapshot is still in base64: few who read it need to open it, or to write
/// another one.
#[derive(Debug)]
pub(super) struct Stored {
    /// The record, with an empty snapshot.
    pub(super) record: Record,
    /// The snapshot.
    pub(super) snapshot: String,
    /// Whether the end of the lease is that of a file beside the record.
    pub(super) renewed: bool,
    /// How many bytes the file has.
    pub(super) bytes: usize,
}

impl Stored {
    /// Reads the record of that run.
    pub(super) fn read(bytes: &[u8], id: RunId, path: &Path) -> Result<Self> {
        let damaged = |why: String| corrupt(path, why).with_run(id);
        let form: Form<'_> = serde_json::from_slice(bytes).map_err(|error| {
            match serde_json::from_slice(bytes) {
                Ok(Version { format }) if format > FORMAT => {
                    newer(ErrorKind::CorruptState, format, path).with_run(id)
                }
                // The error's own text may quote what it met: nothing of a record is told.
                _ => {
                    damaged(format!("no record (line {} column {})", error.line(), error.column()))
                }
            }
        })?;
        if form.format != FORMAT {
            return Err(newer(ErrorKind::CorruptState, form.format, path).with_run(id));
        }
        if form.id != id {
            return Err(damaged(format!("the record of another run, {}", form.id)));
        }
        if form.revision.0.max(form.epoch.0) > MAX_COUNTER {
            return Err(damaged("a record with a counter beyond all bounds".into()));
        }
        let record = Record {
            id: form.id,
            revision: form.revision,
            epoch: form.epoch,
            flow_id: form.flow_id,
            queue: form.queue,
            status: form.status,
            waits: form.waits.into_owned(),
            metadata: form.metadata.into_owned(),
            updated_at: form.updated_at,
            due_at: form.due_at,
            attempts: form.attempts,
            lease: form.lease,
            snapshot: Sealed(Vec::new()),
            inbox: form.inbox.into_owned(),
        };
        let snapshot = form.snapshot.into_owned();
        Ok(Self { record, snapshot, renewed: false, bytes: bytes.len() })
    }

    /// The snapshot, opened.
    pub(super) fn sealed(&self, path: &Path) -> Result<Sealed> {
        let damaged = |_| corrupt(path, "a record with a damaged snapshot");
        let bytes = STANDARD_NO_PAD.decode(&self.snapshot).map_err(damaged);
        bytes.map(Sealed).map_err(|error| error.with_run(self.record.id))
    }
}

/// A record, with that snapshot in place of its own, as it is written.
pub(super) fn write(record: &Record, snapshot: &str) -> Result<Vec<u8>> {
    let form = Form {
        format: FORMAT,
        id: record.id,
        revision: record.revision,
        epoch: record.epoch,
        flow_id: record.flow_id.clone(),
        queue: record.queue.clone(),
        status: record.status,
        waits: Cow::Borrowed(&record.waits),
        metadata: Cow::Borrowed(&record.metadata),
        updated_at: record.updated_at,
        due_at: record.due_at,
        attempts: record.attempts,
        lease: record.lease.clone(),
        inbox: Cow::Borrowed(&record.inbox),
        snapshot: Cow::Borrowed(snapshot),
    };
    let mut bytes = Vec::with_capacity(snapshot.len() + 1024);
    serde_json::to_writer(&mut bytes, &form).map_err(|error| {
        Error::new(ErrorKind::SerializationError, "the record has no JSON form")
            .with_run(record.id)
            .with_source(error)
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A snapshot as it is written.
pub(super) fn encode(snapshot: &Sealed) -> String {
    STANDARD_NO_PAD.encode(&snapshot.0)
}

/// The end of a lease that was renewed: valid for one revision, and so void after any write.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Renewal {
    pub(super) revision: Revision,
    pub(super) until: Timestamp,
}

/// The error for what a later version of this library wrote.
pub(super) fn newer(kind: ErrorKind, version: u32, path: &Path) -> Error {
    let message = format!("format {version} is not known here; use a newer dynamic-flow");
    Error::new(kind, message).with("path", path.display())
}
