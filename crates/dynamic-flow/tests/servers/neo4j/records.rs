//! Records to put into the graph.

use dynamic_flow::{
    Epoch, KeyDigest, Metadata, Revision, RunId, RunStatus,
    codec::Sealed,
    store::{Change, Queue, Record, WaitIndex},
};

pub(crate) use crate::support::at;

/// The `n`-th run, created at the `n`-th millisecond.
pub(crate) fn id(n: u64) -> RunId {
    let mut bytes = *RunId::floor(at(n as i64)).as_bytes();
    bytes[6] = 0x70;
    bytes[8..].copy_from_slice(&((1 << 63) | n).to_be_bytes());
    RunId::from_bytes(bytes)
}

/// A run of that flow that waits for that tool, with that approver.
pub(crate) fn waiting(n: u64, flow: &str, tool: &str, approver: &str) -> Record {
    Record {
        id: id(n),
        revision: Revision::FIRST,
        epoch: Epoch(0),
        flow_id: flow.into(),
        queue: Some(Queue(flow.into())),
        status: RunStatus::Waiting,
        waits: vec![wait("ask", tool, n as i64)],
        metadata: Metadata::from([("approver".into(), approver.into())]),
        updated_at: at(n as i64),
        due_at: Some(at(1_000_000 + n as i64)),
        attempts: 0,
        lease: None,
        snapshot: Sealed(b"sealed".to_vec()),
        inbox: vec![],
    }
}

/// A wait that was opened at that millisecond.
pub(crate) fn wait(id: &str, tool: &str, created: i64) -> WaitIndex {
    WaitIndex {
        id: id.into(),
        tool_id: tool.into(),
        keys: vec![KeyDigest::from_bytes([7; 32])],
        created_at: at(created),
        expires_at: Some(at(1_000_000 + created)),
        has_default: false,
    }
}

/// A change of nothing but the snapshot.
pub(crate) fn snapshot(text: &str) -> Change {
    Change { snapshot: Some(Sealed(text.as_bytes().to_vec())), ..Change::at(at(9)) }
}
