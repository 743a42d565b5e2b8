//! The plain columns that say what becomes of a run next, and when.

use std::time::Duration;

use super::Inner;
use crate::{
    clock::Timestamp,
    engine::{RunStatus, Snapshot},
    store::{Lease, Queue},
};

/// How often the pause between two calls of a notifier doubles: up to about half an hour.
const MAX_NOTICE_DOUBLINGS: u32 = 11;

/// The plain columns that a commit writes beside the snapshot.
pub(super) struct Plain {
    pub(super) status: RunStatus,
    pub(super) queue: Option<Queue>,
    pub(super) due_at: Option<Timestamp>,
    pub(super) lease: Option<Lease>,
}

impl Plain {
    /// Of a run that goes on right after the commit.
    pub(super) fn running(queue: Queue, now: Timestamp, hub: &Inner) -> Self {
        let until = now.after(hub.options.lease);
        Self {
            status: RunStatus::Running,
            queue: Some(queue),
            due_at: Some(until),
            lease: Some(Lease { owner: hub.owner.clone(), until }),
        }
    }

    /// Of a run that nobody drives after the commit.
    pub(super) fn parked(snapshot: &Snapshot, queue: Queue, now: Timestamp, hub: &Inner) -> Self {
        let status = snapshot.status;
        if status.is_final() {
            let purge_at = hub.options.retention.map(|retention| now.after(retention));
            let queue = purge_at.map(|_| Queue::purge());
            return Self { status, queue, due_at: purge_at, lease: None };
        }
        // A run that was let go in mid-work goes on with whoever comes first; a wait that nobody
        // could be told of is tried again before its deadline.
        let (status, due_at) = match status {
            RunStatus::Running => (RunStatus::Ready, Some(now)),
            _ => {
                let again = notice_at(snapshot, now, hub);
                (status, [snapshot.due_at(), again].into_iter().flatten().min())
            }
        };
        Self { status, queue: Some(queue), due_at, lease: None }
    }
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
