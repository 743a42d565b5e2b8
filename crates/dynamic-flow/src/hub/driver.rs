//! A run that is being driven, as the engine sees the hub: commits, merges, keys and notices.

use std::{sync::Arc, time::Duration};

use super::{
    HubEvent, Inner, Known, Notice,
    lease::{Active, Hold, lock},
    outcome::SuspendedWait,
    plain::{Plain, first_record, worked_in},
    take_up::events_of,
    vault::Opened,
};
use crate::{
    Error, ErrorKind, Result, ToolError,
    clock::Timestamp,
    codec::{Binding, Part},
    engine::{
        RunStatus, Snapshot, catch_panic,
        host::{Committed, Host, Intent},
        machine::Trace,
    },
    id::{Epoch, Revision, RunId, SuspensionKey, WaitId},
    store::{Change, Record},
    wait::{Receipt, Wait},
};

/// How long a notifier may take for one wait.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(30);
/// How many keys a wait has at the most because its notifier was called again and again.
const MAX_NOTICE_KEYS: usize = 7;

/// A run that is being driven, as the engine sees the hub.
pub(super) struct Driver {
    hub: Arc<Inner>,
    flow: Arc<Known>,
    run: RunId,
    /// The record's revision as of the last look; none before it was written first.
    at: Option<Revision>,
    epoch: Epoch,
    /// When this holder wrote it last.
    written_at: Option<Timestamp>,
    /// How many items of the inbox, as of `at`, are worked in.
    applied: usize,
    /// How far the run had come when this holder took it.
    mark: Option<Mark>,
    /// The keys of the waits that were opened here.
    fresh: Vec<(WaitId, SuspensionKey)>,
    /// Keys for the notifier alone, in place of lost ones: they give way to one another.
    notices: Vec<(WaitId, SuspensionKey)>,
    /// What became of the waits that an upgrade has left behind, until that is committed.
    superseded: Vec<Receipt>,
    active: Arc<Active>,
    hold: Option<Hold>,
}

/// What is left of a driver whose run was let go.
pub(super) struct End {
    /// The keys of the waits that were opened here.
    pub(super) keys: Vec<(WaitId, SuspensionKey)>,
    /// The epoch under which the run is stored, if it is.
    pub(super) epoch: Option<Epoch>,
    /// When it was written last.
    pub(super) written_at: Timestamp,
}

impl Driver {
    /// Of a run that nobody has stored yet.
    pub(super) fn new(hub: &Arc<Inner>, flow: &Arc<Known>, run: RunId) -> Self {
        let active = Arc::new(Active::default());
        lock(&hub.active).insert(run, active.clone());
        if hub.is_stopping() {
            active.stop();
        }
        Self {
            hub: hub.clone(),
            flow: flow.clone(),
            run,
            at: None,
            epoch: Epoch(1),
            written_at: None,
            applied: 0,
            mark: None,
            fresh: Vec::new(),
            notices: Vec::new(),
            superseded: Vec::new(),
            active,
            hold: None,
        }
    }

    /// Of a run whose lease this hub has, as it is taken up.
    pub(super) fn holding(
        hub: &Arc<Inner>,
        flow: &Arc<Known>,
        record: &Record,
        snapshot: &Snapshot,
        superseded: Vec<Receipt>,
    ) -> Self {
        let mut driver = Self::new(hub, flow, record.id);
        driver.at = Some(record.revision);
        driver.epoch = record.epoch;
        driver.applied = record.inbox.len();
        driver.mark = Some(Mark::of(snapshot));
        driver.superseded = superseded;
        driver.hold();
        driver
    }

    pub(super) fn hub(&self) -> &Arc<Inner> {
        &self.hub
    }

    pub(super) fn flow(&self) -> &Arc<Known> {
        &self.flow
    }

    /// Lets the run go.
    pub(super) fn end(mut self) -> End {
        End {
            keys: std::mem::take(&mut self.fresh),
            epoch: self.at.map(|_| self.epoch),
            written_at: self.written_at.unwrap_or_else(|| self.hub.clock.now()),
        }
    }

    fn hold(&mut self) {
        if self.hold.is_none() {
            let held = self.hub.keeper.hold(self.run, self.epoch, &self.active, &self.hub.clock);
            self.hold = Some(held);
        }
    }

    /// Gives keys to the waits that have none.
    fn hand_out_keys(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        for wait in &mut snapshot.waits {
            if wait.keys.is_empty() {
                let fresh = self.fresh.iter().find(|(id, _)| *id == wait.id);
                let digest = match fresh {
                    Some((_, key)) => key.digest(),
                    None => {
                        let key = self.hub.keys.generate(self.run)?;
                        let digest = key.digest();
                        self.fresh.push((wait.id.clone(), key));
                        digest
                    }
                };
                wait.keys.push(digest);
            }
        }
        Ok(())
    }

    /// Writes the snapshot once; `Merge` where something was accepted meanwhile.
    async fn write(&mut self, snapshot: &mut Snapshot, intent: Intent) -> Result<Committed> {
        self.hand_out_keys(snapshot)?;
        let now = self.hub.clock.now();
        let known = &self.flow;
        snapshot.advance();
        snapshot.flow = known.stamp(snapshot)?;
        let binding = Binding { run: self.run, flow: &known.def.id, part: Part::Snapshot };
        let sealed = self.hub.codec.seal_state(snapshot, snapshot.sequence, binding)?;
        let plain = match intent {
            Intent::Progress => Plain::running(known.queue(), now, &self.hub),
            Intent::Park => Plain::parked(snapshot, known.queue(), now, &self.hub),
        };
        let change = plain.beside(worked_in(snapshot, sealed, now));
        let written = match self.at {
            None => {
                let record = first_record(self.run, known.def.id.clone(), change);
                self.hub.vault.insert(&record).await.map(|()| record.revision)
            }
            Some(at) => {
                let change = Change {
                    // Making the calls again that a dead holder made is no progress.
                    attempts: (intent == Intent::Park || self.mark != Some(Mark::of(snapshot)))
                        .then_some(0),
                    inbox_drop: self.applied,
                    ..change
                };
                self.hub.vault.update(self.run, at, change).await
            }
        };
        match written {
            Ok(revision) => {
                self.at = Some(revision);
                self.written_at = Some(now);
                self.applied = 0;
                for receipt in std::mem::take(&mut self.superseded) {
                    self.closed(&receipt);
                }
                match intent {
                    Intent::Progress => {
                        self.hold();
                        let until = now.after(self.hub.options.lease);
                        self.hub.secure(self.run, self.epoch, until).await?;
                    }
                    Intent::Park => self.hold = None,
                }
                Ok(Committed::Done)
            }
            Err(error) if error.is_conflict() => self.merge().await,
            Err(error) => Err(error.with_run(self.run)),
        }
    }

    /// Takes what was accepted since the last look, if the run is still this holder's.
    async fn merge(&mut self) -> Result<Committed> {
        let lost = |what| Err(Error::new(ErrorKind::RunBusy, what).with_run(self.run));
        let Some(record) = self.hub.vault.get(self.run).await? else {
            return lost("the run was removed while it was driven");
        };
        if record.epoch != self.epoch {
            return lost(
                "the run was taken over or moved; what was not committed here is discarded",
            );
        }
        self.at = Some(record.revision);
        let opened = Opened::unseal(&self.hub.codec, record)?;
        // Who accepted it may not know of the upgrade that is not committed yet.
        self.flow.check_keeps_answers(&opened)?;
        let new = opened.inbox.get(self.applied..).unwrap_or_default();
        self.applied = opened.inbox.len();
        Ok(Committed::Merge(events_of(new, &opened.snapshot)?))
    }

    /// Tells the notifier of each wait that it was not told of.
    async fn notify(&mut self, snapshot: &mut Snapshot) {
        let Some(notifier) = self.hub.notifier.clone() else { return };
        for wait in snapshot.waits.iter_mut().filter(|wait| !wait.notified) {
            let mut known = self.fresh.iter().chain(&self.notices);
            let Some((_, key)) = known.find(|(known, _)| *known == wait.id) else {
                continue;
            };
            let notice = Notice {
                run_id: self.run,
                flow_id: self.flow.def.id.clone(),
                wait: SuspendedWait::new(wait, Some(key.clone())),
            };
            let telling = async { notifier.notify(notice).await };
            let told = tokio::time::timeout(NOTIFY_TIMEOUT, catch_panic(telling)).await;
            let told = told.unwrap_or_else(|_| Err(ToolError::new("no answer in time")));
            match told {
                Ok(()) => {
                    wait.notified = true;
                    wait.notice_keys.clear();
                }
                Err(error) => {
                    wait.failed_notices = wait.failed_notices.saturating_add(1);
                    tracing::warn!(run = %self.run, wait = %wait.id, %error, "a wait was not passed on");
                }
            }
        }
    }

    /// Gives a new key to each wait that the notifier was not told of and whose key is lost.
    fn replace_lost_keys(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        for wait in &mut snapshot.waits {
            let known = self.fresh.iter().chain(&self.notices).any(|(id, _)| *id == wait.id);
            if wait.notified || known || wait.keys.is_empty() {
                continue;
            }
            let key = self.hub.keys.generate(self.run)?;
            wait.add_notice_key(key.digest(), MAX_NOTICE_KEYS);
            self.notices.push((wait.id.clone(), key));
        }
        Ok(())
    }
}

impl Host for Driver {
    async fn commit(&mut self, snapshot: &mut Snapshot, intent: Intent) -> Result<Committed> {
        self.write(snapshot, intent).await
    }

    fn has_news(&mut self, snapshot: &mut Snapshot) -> Result<bool> {
        if self.hub.notifier.is_none() || snapshot.waits.iter().all(|wait| wait.notified) {
            return Ok(false);
        }
        self.replace_lost_keys(snapshot)?;
        Ok(true)
    }

    async fn pass_on(&mut self, snapshot: &mut Snapshot) {
        self.notify(snapshot).await;
    }

    async fn signaled(&mut self) {
        self.active.signaled().await;
    }

    fn stopping(&self) -> bool {
        self.active.is_stopping() || self.active.is_lost()
    }

    fn trace(&mut self, trace: Trace) {
        self.hub.tell(HubEvent::of_trace(self.run, trace));
    }

    fn opened(&mut self, wait: &Wait) {
        self.hub.tell(HubEvent::wait_opened(self.run, wait));
    }

    fn closed(&mut self, receipt: &Receipt) {
        self.hub.tell(HubEvent::WaitClosed { run_id: self.run, receipt: receipt.clone() });
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let mut active = lock(&self.hub.active);
        if active.get(&self.run).is_some_and(|known| Arc::ptr_eq(known, &self.active)) {
            active.remove(&self.run);
        }
        drop(active);
        self.hub.idle.notify_waiters();
    }
}

/// How far a run has come; the same again is no progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    calls: u64,
    waits: u64,
    receipts: u64,
    status: RunStatus,
}

impl Mark {
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            calls: snapshot.calls,
            waits: snapshot.opened_waits,
            receipts: snapshot.earlier_receipts + snapshot.receipts.len() as u64,
            status: snapshot.status,
        }
    }
}
