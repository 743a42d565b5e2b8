//! Drives a run under a lease: commits what the engine asks for, merges what was accepted
//! meanwhile, and stops where somebody else holds the run.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tracing::Instrument as _;

use super::{
    HubEvent, Inner, Known,
    inbox::{Accept, InboxItem},
    lease::{Active, Hold, lock},
    outcome::{Outcome, SuspendedWait, outcome_of},
    plain::{Plain, first_record, worked_in},
    vault::Opened,
    worker::Taken,
};
use crate::{
    Error, ErrorKind, Result, ToolError,
    clock::Timestamp,
    codec::{Binding, Part},
    engine::{
        Failure, RunStatus, Snapshot, catch_panic,
        machine::{Event, Trace},
        runner::{self, Committed, Drive, Host, Intent},
    },
    id::{Epoch, Revision, RunId, SuspensionKey, WaitId},
    store::Change,
    wait::{Receipt, Wait},
};

/// How far a run was driven.
pub(super) enum Driven {
    /// Until it was parked, has ended or was let go; as it was committed.
    To {
        /// Its state.
        snapshot: Box<Snapshot>,
        /// The keys of the waits that were opened on the way.
        keys: Vec<(WaitId, SuspensionKey)>,
        /// When.
        at: Timestamp,
    },
    /// Until its state could not be committed, and never will be: it was failed as it was before.
    Uncommittable(Error),
}

impl Driven {
    /// What the run is doing now.
    pub(super) fn status(&self) -> RunStatus {
        match self {
            Self::To { snapshot, .. } if snapshot.status == RunStatus::Running => RunStatus::Ready,
            Self::To { snapshot, .. } => snapshot.status,
            Self::Uncommittable(_) => RunStatus::Failed,
        }
    }

    /// What the caller gets who asked for it to be driven.
    pub(super) fn outcome(self) -> Result<Outcome> {
        match self {
            Self::To { snapshot, .. } if snapshot.status == RunStatus::Running => Err(Error::new(
                ErrorKind::ShuttingDown,
                "the hub is shutting down; the run is committed and goes on with the next worker",
            )
            .with_run(snapshot.run_id)),
            Self::To { snapshot, keys, at } => outcome_of(&snapshot, at, keys),
            Self::Uncommittable(error) => Err(error),
        }
    }
}

/// Drives a run from its very start, of which nothing is stored yet, until it is parked or has ended.
///
/// The future must be polled to its end, so it belongs on a task of its own.
///
/// # Errors
/// Where it could not be driven, as for [`go_on`].
pub(super) async fn begin(hub: Arc<Inner>, flow: Arc<Known>, snapshot: Snapshot) -> Result<Driven> {
    let now = hub.clock.now();
    let driver = Driver::new(&hub, &flow, snapshot.run_id);
    run(snapshot, vec![(Event::Started, now), (Event::Tick, now)], driver).await
}

/// Drives a run whose lease this hub has taken until it is parked or has ended.
///
/// The future must be polled to its end, so it belongs on a task of its own.
///
/// # Errors
/// Where it could not be driven; it is then let go as it was taken. `RunBusy` where it is somebody
/// else's by now.
pub(super) async fn go_on(hub: Arc<Inner>, flow: Arc<Known>, opened: Opened) -> Result<Driven> {
    let taken = Taken::of(&opened.record);
    go_on_as(hub, flow, opened, taken).await
}

/// As [`go_on`], with a run that was taken in that way.
pub(super) async fn go_on_as(
    hub: Arc<Inner>,
    flow: Arc<Known>,
    opened: Opened,
    taken: Taken,
) -> Result<Driven> {
    let driven = drive(&hub, &flow, opened).await;
    match &driven {
        Err(error) if error.kind() != ErrorKind::RunBusy => hub.release(&taken).await,
        _ => hub.skips.forget(taken.id),
    }
    driven
}

async fn drive(hub: &Arc<Inner>, flow: &Arc<Known>, opened: Opened) -> Result<Driven> {
    let Opened { record, snapshot, inbox } = opened;
    let TakenUp { snapshot, events, superseded } =
        taken_up(flow, snapshot, &inbox, hub.clock.now())?;
    let mut driver = Driver::new(hub, flow, record.id);
    driver.at = Some(record.revision);
    driver.epoch = record.epoch;
    driver.applied = record.inbox.len();
    driver.mark = Some(Mark::of(&snapshot));
    driver.superseded = superseded;
    driver.hold();
    if let Some(lease) = &record.lease {
        hub.secure(record.id, record.epoch, lease.until).await?;
    }
    run(snapshot, events, driver).await
}

/// A run as its next holder finds it.
pub(super) struct TakenUp {
    /// Its state under the flow.
    pub(super) snapshot: Snapshot,
    /// What happened to it meanwhile, and when.
    pub(super) events: Vec<(Event, Timestamp)>,
    /// What became of the waits that an upgrade has left behind; in the snapshot already.
    superseded: Vec<Receipt>,
}

/// Takes a run up under a flow.
///
/// # Errors
/// `CorruptState` where what was answered is not what the wait asks.
pub(super) fn taken_up(
    flow: &Known,
    snapshot: Snapshot,
    inbox: &[InboxItem],
    now: Timestamp,
) -> Result<TakenUp> {
    let mut accepted = events_of(inbox, &snapshot)?;
    put_answers_in_time(&mut accepted);
    let mut snapshot = flow.carry_over(snapshot)?;
    let superseded = snapshot.close_orphans(now);
    // What was accepted counts from when it was accepted: no timer that was due later may come
    // first. Calls are not made anew only to be dropped by a cancellation.
    let from = accepted.iter().map(|(_, at)| *at).min().unwrap_or(now);
    let cancelled = accepted.iter().any(|(e, _)| matches!(e, Event::Cancelled(_)))
        && !accepted.iter().any(|(e, _)| matches!(e, Event::Answered { .. }));
    let mut events = Vec::with_capacity(accepted.len() + 2);
    let retried = accepted.iter().position(|(e, _)| *e == Event::Retried);
    if let Some(retried) = retried.filter(|_| snapshot.is_set_aside()) {
        // All is as it was committed last, whatever it was doing then. It stood still: timeouts
        // begin anew, before anything else that was accepted counts.
        snapshot.status = RunStatus::Running;
        snapshot.ended = None;
        accepted.remove(retried);
        events.push((Event::Retried, from));
    }
    events.extend((!cancelled).then_some((Event::Started, from)));
    events.extend(accepted);
    events.push((Event::Tick, now));
    Ok(TakenUp { snapshot, events, superseded })
}

/// Lets nothing that comes before an answer happen later than it. Clocks differ: what was accepted
/// first may say so, and would then let a deadline win over an answer that was in time.
fn put_answers_in_time(accepted: &mut [(Event, Timestamp)]) {
    let mut answered = None;
    for (event, at) in accepted.iter_mut().rev() {
        match (event, answered) {
            (Event::Answered { .. }, None) => answered = Some(*at),
            (Event::Answered { .. }, Some(later)) => answered = Some(later.min(*at)),
            (_, Some(answered)) => *at = answered.min(*at),
            (_, None) => {}
        }
    }
}

/// What the machine hears of what was accepted for a run in that state.
fn events_of(inbox: &[InboxItem], snapshot: &Snapshot) -> Result<Vec<(Event, Timestamp)>> {
    let mut events = Vec::with_capacity(inbox.len());
    for item in inbox {
        if let Accept::Answer { wait_id, receipt, .. } = &item.what
            && let Some(wait) = snapshot.wait(wait_id)
        {
            wait.check_asked(snapshot.run_id, receipt)?;
        }
        events.extend(item.event());
    }
    Ok(events)
}

async fn run(
    snapshot: Snapshot,
    events: Vec<(Event, Timestamp)>,
    driver: Driver,
) -> Result<Driven> {
    let span = tracing::info_span!("run", run = %driver.run, flow = %driver.flow.def.id);
    run_in_span(snapshot, events, driver).instrument(span).await
}

async fn run_in_span(
    snapshot: Snapshot,
    events: Vec<(Event, Timestamp)>,
    mut driver: Driver,
) -> Result<Driven> {
    let (hub, flow, run_id) = (driver.hub.clone(), driver.flow.clone(), driver.run);
    hub.tell(HubEvent::RunStarted { run_id, flow_id: flow.def.id.clone() });
    let options = Drive {
        durability: hub.options.durability,
        linger: hub.options.linger,
        default_timeout: hub.options.default_timeout,
    };
    let driven =
        runner::drive(&flow.def, snapshot, events, options, hub.clock.as_ref(), &mut driver).await;
    let keys = std::mem::take(&mut driver.fresh);
    let epoch = driver.at.map(|_| driver.epoch);
    drop(driver);
    match driven {
        Ok(snapshot) => {
            let driven = Driven::To { snapshot: snapshot.into(), keys, at: hub.clock.now() };
            hub.tell(HubEvent::RunStopped { run_id, status: driven.status() });
            Ok(driven)
        }
        Err(error) => {
            let error = error.with_run(run_id);
            match epoch.filter(|_| is_uncommittable(error.kind())) {
                Some(epoch) if hub.set_uncommittable_aside(run_id, epoch, &error).await => {
                    Ok(Driven::Uncommittable(error))
                }
                _ => Err(error),
            }
        }
    }
}

/// Whether every further try to commit the state would fail in the same way.
fn is_uncommittable(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::StateTooLarge | ErrorKind::SerializationError | ErrorKind::InvalidArgument
    )
}

impl Inner {
    /// Takes the lease of a run as it was read, and drives it; none where somebody else has it.
    pub(super) async fn take_and_drive(
        self: &Arc<Self>,
        opened: Opened,
        flow: Arc<Known>,
    ) -> Result<Option<Driven>> {
        match self.take(opened).await {
            Ok(Some(opened)) => go_on(self.clone(), flow, opened).await.map(Some),
            Ok(None) => Ok(None),
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fails a run whose state can't be committed, if this holder still has it; gives whether it did.
    async fn set_uncommittable_aside(&self, run: RunId, epoch: Epoch, error: &Error) -> bool {
        let setting_aside = async {
            let opened = Opened::unseal(&self.codec, self.vault.require(run).await?)?;
            if opened.record.epoch != epoch {
                return Ok(false);
            }
            let aside = self.set_aside(opened, Failure::UNCOMMITTABLE, error.to_string()).await;
            aside.map(|()| true)
        };
        setting_aside.await.unwrap_or_else(|error: Error| {
            // Something may have been accepted at that very moment; the next worker sets it aside.
            tracing::warn!(%run, %error, "a run whose state can't be committed is left as it was");
            false
        })
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

/// A run that is being driven, as the engine sees the hub.
struct Driver {
    hub: Arc<Inner>,
    flow: Arc<Known>,
    run: RunId,
    /// The record's revision as of the last look; none before it was written first.
    at: Option<Revision>,
    epoch: Epoch,
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

impl Driver {
    /// Of a run that nobody has stored yet.
    fn new(hub: &Arc<Inner>, flow: &Arc<Known>, run: RunId) -> Self {
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
            applied: 0,
            mark: None,
            fresh: Vec::new(),
            notices: Vec::new(),
            superseded: Vec::new(),
            active,
            hold: None,
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
        let mut accepted = events_of(new, &opened.snapshot)?;
        put_answers_in_time(&mut accepted);
        Ok(Committed::Merge(accepted))
    }

    /// Tells the notifier of each wait that it was not told of.
    async fn notify(&mut self, snapshot: &mut Snapshot) {
        let Some(notifier) = self.hub.notifier.clone() else { return };
        for wait in snapshot.waits.iter_mut().filter(|wait| !wait.notified) {
            let mut known = self.fresh.iter().chain(&self.notices);
            let Some((_, key)) = known.find(|(known, _)| *known == wait.id) else {
                continue;
            };
            let view = SuspendedWait::new(wait, Some(key.clone()));
            let telling = async { notifier.notify(self.run, &self.flow.def.id, &view).await };
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

/// How long a notifier may take for one wait.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(30);
/// How many keys a wait has at the most because its notifier was called again and again.
const MAX_NOTICE_KEYS: usize = 7;

#[async_trait]
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
