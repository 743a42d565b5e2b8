//! Snapshots that are changed outside of the engine.

use super::{
    HubEvent, Inner, Known,
    plain::{Plain, changed},
    vault::{Opened, binding},
};
use crate::{
    Failure, Result,
    clock::Timestamp,
    codec::Part,
    engine::{Ended, RunStatus, Snapshot},
    store::Change,
    wait::Receipt,
};

impl Inner {
    /// Fails a run where it was committed last, before it kills one worker after the other. What
    /// was accepted for it stays, and counts again once it is retried.
    pub(super) async fn set_aside(
        &self,
        mut opened: Opened,
        code: &str,
        message: String,
    ) -> Result<()> {
        let now = self.clock.now();
        let position = opened.snapshot.positions().into_iter().next().unwrap_or_default();
        opened.snapshot.status = RunStatus::Failed;
        opened.snapshot.ended = Some(Ended::SetAside(Failure::permanent(code, message, position)));
        self.rewrite(opened, Vec::new(), now).await
    }

    /// Writes a snapshot that was changed outside of the engine, and lets the run go; tells of the
    /// waits that the change has closed.
    pub(super) async fn rewrite(
        &self,
        mut opened: Opened,
        closed: Vec<Receipt>,
        now: Timestamp,
    ) -> Result<()> {
        opened.snapshot.advance();
        let Opened { record, snapshot, .. } = &opened;
        let bound = binding(record, Part::Snapshot);
        let sealed = self.codec.seal_ending(snapshot, snapshot.sequence, bound)?;
        let plain = Plain::parked(snapshot, self.queue_of(snapshot), now, self);
        let change = Change {
            // Whoever held it before and is heard of again has lost it.
            epoch: Some(record.epoch.next()),
            attempts: Some(0),
            ..plain.beside(changed(&opened, sealed, &self.codec, now)?)
        };
        self.vault.update(record.id, record.revision, change).await?;
        self.tell_of_end(snapshot, closed);
        Ok(())
    }

    /// Tells of a run that was let go by a write outside of the engine, which has closed waits.
    pub(super) fn tell_of_end(&self, snapshot: &Snapshot, closed: Vec<Receipt>) {
        for receipt in closed {
            self.tell(HubEvent::WaitClosed { run_id: snapshot.run_id, receipt });
        }
        self.tell(HubEvent::run_stopped(snapshot, snapshot.status));
    }

    /// Writes a state as a flow goes on with it.
    pub(super) async fn move_over(&self, mut opened: Opened, flow: &Known) -> Result<()> {
        let now = self.clock.now();
        let superseded = opened.close_orphans(now);
        opened.snapshot.flow = flow.stamp(&opened.snapshot)?;
        // Let begin anew, it waits for nothing any more.
        let begins =
            opened.snapshot.status == RunStatus::Waiting && !opened.snapshot.root.is_parked();
        if begins {
            opened.snapshot.status = RunStatus::Running;
        }
        opened.snapshot.advance();
        let Opened { record, snapshot, .. } = &opened;
        let bound = binding(record, Part::Snapshot);
        let sealed = self.codec.seal_state(snapshot, snapshot.sequence, bound)?;
        let change = Change {
            // A holder that has not heard of its last commit yet must not write over this.
            epoch: Some(record.epoch.next()),
            // Of a run that has ended, the queue says when it is removed.
            queue: (!record.status.is_final()).then(|| Some(self.queue_of(snapshot))),
            status: begins.then_some(snapshot.parked_status()),
            // What else an upgrade changes is due when it was: deadlines and timers stay.
            due_at: begins.then_some(Some(now)),
            ..changed(&opened, sealed, &self.codec, now)?
        };
        self.vault.update(record.id, record.revision, change).await?;
        for receipt in superseded {
            self.tell(HubEvent::WaitClosed { run_id: snapshot.run_id, receipt });
        }
        Ok(())
    }
}
