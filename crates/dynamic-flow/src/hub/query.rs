//! Looking at runs, and checking or moving them before a deploy.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    PersistenceHub,
    accept::{Found, deadline_passed, refusal, takes_no_answers},
    flows::{Known, unusable},
    inbox::Accept,
    outcome::{RunView, SuspendedWait},
    pending::{pending_cancellation, pending_receipts},
    requests::has_ended,
    vault::{Opened, binding},
};
use crate::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    codec::{Part, SealedInfo},
    engine::RunStatus,
    flow::{Fit, Flow, FlowDef},
    id::{RunId, SuspensionKey},
    minutes,
    store::{Change, Cursor, Filter, Health, Page, Summary, Unreadable},
};

/// How many runs are read at once when all are gone through.
pub(super) const PAGE: usize = 200;
/// How long after it was due a run counts as overdue: workers look every second, and wait for a minute
/// with what they could not go on with.
const LATE: Duration = minutes(2);
/// How many parked runs are looked at for a timer that is over: no filter asks for these.
const TIMERS: usize = 10_000;

/// How the parked runs of a flow get on with a newer one.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct CheckReport {
    /// How many runs are parked or being driven, also those that can't be opened.
    pub runs: usize,
    /// How many of them are runs of this very flow.
    pub same: usize,
    /// How many others can go on with it.
    pub compatible: usize,
    /// Those that can't, and why.
    pub stranded: Vec<Stranded>,
    /// Those that can't be opened, and why, of which nobody knows whether they can: without their
    /// key, damaged, or with a record that does not read back.
    pub unopened: Vec<Stranded>,
}

impl CheckReport {
    fn strand(&mut self, run_id: RunId, reasons: Vec<String>) {
        self.runs += 1;
        self.stranded.push(Stranded { run_id, reasons });
    }

    fn unopened(&mut self, run_id: RunId, why: String) {
        self.runs += 1;
        self.unopened.push(Stranded { run_id, reasons: vec![why] });
    }
}

/// A run with which what was asked for can't be done: one that does not go on with a newer flow, or
/// does not open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stranded {
    /// The run.
    pub run_id: RunId,
    /// Why it can't.
    pub reasons: Vec<String>,
}

/// What sealing everything anew did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ResealReport {
    /// How many runs were looked at.
    pub runs: usize,
    /// How many were sealed anew.
    pub resealed: usize,
    /// How many were being driven, and are sealed with the active key at their next commit.
    pub busy: usize,
    /// How many could not be opened with any key at hand.
    pub failed: usize,
    /// Those, and why.
    pub failed_runs: Vec<Stranded>,
    /// Those whose records do not read back, and so stay as they are.
    pub unreadable: Vec<Unreadable>,
    /// Where to go on; none when all were looked at.
    pub next: Option<Cursor>,
}

impl Stranded {
    /// A run, and why it can't.
    pub fn new(run_id: RunId, reasons: Vec<String>) -> Self {
        Self { run_id, reasons }
    }
}

impl ResealReport {
    fn fail(&mut self, run: RunId, error: &Error) {
        tracing::warn!(%run, %error, "a run could not be sealed anew");
        self.failed += 1;
        self.failed_runs.push(Stranded { run_id: run, reasons: vec![error.to_string()] });
    }
}

impl PersistenceHub {
    /// Lists runs, newest first, by their plain columns; nothing is unsealed. A run whose record does
    /// not read back is listed in its place, as [`Unreadable`].
    ///
    /// # Errors
    /// `InvalidArgument` for a limit of 0; what the store fails with.
    pub async fn query(
        &self,
        filter: &Filter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page> {
        if limit == 0 {
            return Err(Error::new(ErrorKind::InvalidArgument, "a page has at least one row"));
        }
        let vault = &self.inner().vault;
        vault.reading(|| vault.store().query(filter, after, limit)).await
    }

    /// Opens a run for its owner: all of it but the keys, which nobody has.
    ///
    /// # Errors
    /// `RunNotFound`; `EncryptionError` and `CorruptState` where it can't be opened.
    pub async fn get(&self, run: RunId) -> Result<RunView> {
        Ok(view_of(self.inner().open_verified(run).await?))
    }

    /// The open wait that a key answers, so that whoever holds it can see what is asked.
    ///
    /// Where this hub's flow asks otherwise by an upgrade ([`Flow::upgrade`]), the run is moved to it first,
    /// as by [`PersistenceHub::upgrade`], if that is possible now: what is shown is what is stored, and what
    /// a receipt tells of.
    ///
    /// # Errors
    /// As [`PersistenceHub::answer`] for a key that has no open wait; `FlowIncompatible` where the upgrade
    /// leaves the wait behind, which then takes no answer here.
    pub async fn question(&self, key: &SuspensionKey) -> Result<SuspendedWait> {
        let hub = self.inner();
        let mut moved = false;
        loop {
            let (opened, wait) = match hub.find(key).await? {
                Found::Open(opened, wait) => (opened, wait),
                Found::Closed(opened, receipt) => {
                    return Err(refusal(receipt).with_run(opened.record.id));
                }
            };
            let run = opened.record.id;
            if opened.record.status.is_final() {
                return Err(takes_no_answers(run));
            }
            if wait.is_over(hub.clock.now()) {
                return Err(deadline_passed(run, &wait));
            }
            let flow = hub.known_flow(&opened.snapshot).ok();
            let carried = flow.as_ref().map(|flow| flow.carried(&opened.snapshot, &wait));
            match (flow, carried.transpose()?.flatten()) {
                // Once is enough: of an upgrade that asks otherwise each time, no end would come. Where
                // somebody drives the run, or was faster, what is there now is shown.
                (Some(flow), Some(carried)) if !moved && !carried.asks_the_same(&wait) => {
                    match self.move_to(run, &flow).await {
                        Err(error) if error.kind() == ErrorKind::StorageError => return Err(error),
                        _ => moved = true,
                    }
                }
                _ => return Ok(SuspendedWait::new(&wait, None)),
            }
        }
    }

    /// How the store is, in plain words.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub async fn health(&self) -> Result<Health> {
        self.inner().vault.store().health().await
    }

    /// How many runs are overdue: a deadline of a wait has passed, and no worker has done yet what it
    /// does then; or somebody should have gone on with them two minutes ago, because something was accepted
    /// for them, because whoever drove them has died, or because a sleep or a pause of theirs was over
    /// then. Counts up to `most`, and no run whose record does not read back.
    ///
    /// Of sleeps and pauses, those among the 10,000 newest parked runs are seen.
    ///
    /// A number to watch: it stays at nothing while workers keep up, and callers with states of the
    /// lower half, whose defaults are given to whoever asks with `claim_states`.
    ///
    /// # Errors
    /// What the store fails with.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use dynamic_flow::{hub::PersistenceHub, store::MemoryStore};
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let hub = PersistenceHub::builder(Arc::new(MemoryStore::new()));
    /// let hub = hub.plaintext().build().await?;
    /// assert_eq!(hub.overdue(1_000).await?, 0);
    /// # Ok::<(), dynamic_flow::Error>(()) }).unwrap();
    /// ```
    pub async fn overdue(&self, most: usize) -> Result<usize> {
        let now = self.inner().clock.now();
        let late = now.before(LATE);
        let is_late = |run: &Summary| run.due_at.is_some_and(|due| due < late);
        let ends_late = |run: &Summary| is_late(run) && !run.waits.iter().any(|it| it.is_over(now));
        let mut count = self.count(&overdue_at(now), most, usize::MAX, |_| true).await?;
        let left = Filter::new().status(RunStatus::Ready).status(RunStatus::Running);
        count += self.count(&left, most - count, usize::MAX, is_late).await?;
        let parked = Filter::new().status(RunStatus::Waiting);
        count += self.count(&parked, most - count, TIMERS, ends_late).await?;
        Ok(count)
    }

    /// How many runs match and count, up to `most`, of so many that match.
    async fn count(
        &self,
        filter: &Filter,
        most: usize,
        mut of: usize,
        counts: impl Fn(&Summary) -> bool,
    ) -> Result<usize> {
        let (mut count, mut after) = (0, None);
        while count < most && of > 0 {
            let page = self.query(filter, after, of.min(PAGE)).await?;
            of = of.saturating_sub(page.items.len());
            count += page.readable().filter(|run| counts(run)).count();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(count.min(most))
    }

    /// How the state of a run is sealed.
    ///
    /// # Errors
    /// `RunNotFound`; `CorruptState` where it is no sealed state.
    pub async fn sealed_info(&self, run: RunId) -> Result<SealedInfo> {
        let record = self.inner().vault.require(run).await?;
        crate::codec::Codec::sealed_info(&record.snapshot).map_err(|error| error.with_run(run))
    }

    /// Tells which parked runs a newer version of a flow could not go on with, before it is deployed;
    /// changes nothing. The flow may be a document or code, and need not be registered. Failed and
    /// expired runs are left out: [`PersistenceHub::check_run`] takes them.
    ///
    /// # Errors
    /// When the store fails. A run that can't be opened, or whose record does not read back, is told
    /// of apart; of the latter, those that may be of the flow as far as the store can tell.
    pub async fn check<I, O>(&self, flow: &Flow<I, O>) -> Result<CheckReport> {
        let known = Known::new(&flow.erase());
        let mut report = CheckReport::default();
        let filter = live_runs_of(&known.def);
        let mut after = None;
        loop {
            let page = self.query(&filter, after, PAGE).await?;
            for listed in &page.items {
                match listed {
                    Ok(summary) => self.check_one(&known, summary, &mut report).await?,
                    Err(unreadable) => report.unopened(unreadable.id, unreadable.to_string()),
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(report);
            }
        }
    }

    async fn check_one(
        &self,
        known: &Known,
        summary: &Summary,
        report: &mut CheckReport,
    ) -> Result<()> {
        let opened = match self.inner().open_verified(summary.id).await {
            Ok(opened) => opened,
            // It ended and was removed since the page was read.
            Err(error) if error.kind() == ErrorKind::RunNotFound => return Ok(()),
            // One that will not pass is that of this record: the page was read from the same store.
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => {
                report.unopened(summary.id, error.to_string());
                return Ok(());
            }
        };
        match known.check_keeps_answers(&opened).and_then(|()| known.compare(&opened.snapshot)) {
            Ok(Fit::Same) => {
                report.runs += 1;
                report.same += 1;
            }
            Ok(Fit::Compatible) => {
                report.runs += 1;
                report.compatible += 1;
            }
            Ok(Fit::Incompatible(reasons)) => report.strand(summary.id, reasons),
            Err(error) => report.strand(summary.id, vec![error.to_string()]),
        }
        Ok(())
    }

    /// Tells whether a newer version of a flow, a document or code, could go on with a run, also with
    /// one that has failed or expired, if [`PersistenceHub::upgrade`] moved it there; changes nothing.
    ///
    /// # Errors
    /// As [`PersistenceHub::upgrade`] would fail with.
    pub async fn check_run<I, O>(&self, run: RunId, flow: &Flow<I, O>) -> Result<()> {
        self.upgraded(run, &Arc::new(Known::new(&flow.erase()))).await.map(drop)
    }

    /// Moves a run that nobody drives to a newer version of its flow, if that can go on with it: one
    /// that is parked, one that is ready for a worker, and one that has failed or expired, with which
    /// `retry` then goes on by the newer version.
    ///
    /// A run of a document needs it, for it carries its document along and goes on with that one. A
    /// run of a flow in code goes on with what is registered anyway; this writes down now what an
    /// upgrade of that flow ([`Flow::upgrade`]) makes of it, instead of at the next commit.
    ///
    /// # Errors
    /// `FlowIncompatible` with reasons, the run staying as it was, also where it is of another flow, or
    /// where the upgrade would drop an answer that was accepted or ask otherwise than was answered;
    /// `RunBusy` while somebody drives it; `InvalidState` when it has ended otherwise.
    pub async fn upgrade<I, O>(&self, run: RunId, flow: &Flow<I, O>) -> Result<()> {
        self.move_to(run, &Arc::new(Known::new(&flow.erase()))).await
    }

    async fn move_to(&self, run: RunId, known: &Arc<Known>) -> Result<()> {
        let opened = self.upgraded(run, known).await?;
        match self.inner().move_over(opened, known).await {
            Err(error) if error.is_conflict() => Err(busy(run)),
            moved => moved,
        }
    }

    /// A run as a flow would go on with it.
    async fn upgraded(&self, run: RunId, known: &Arc<Known>) -> Result<Opened> {
        let hub = self.inner();
        let opened = hub.open_verified(run).await?;
        if opened.record.flow_id != known.def.id {
            return Err(Error::new(ErrorKind::FlowIncompatible, "the run is of another flow")
                .with_run(run)
                .with("flow", &known.def.id));
        }
        let record = &opened.record;
        let upgradable =
            [RunStatus::Waiting, RunStatus::Ready, RunStatus::Failed, RunStatus::Expired];
        // Whether the flow fits is no matter where it can't be moved anyway.
        if record.is_held(hub.clock.now()) {
            return Err(busy(run));
        }
        let status = record.status;
        if !upgradable.contains(&status) {
            return Err(match status.is_final() {
                true => has_ended(run, status),
                false => Error::new(
                    ErrorKind::RunBusy,
                    "the run is in the middle of its work, and its holder is gone; a worker takes it \
                     over and parks it",
                )
                .with_run(run),
            });
        }
        hub.fit(&opened, known.clone())?;
        let opened = Opened { snapshot: known.carry_over(opened.snapshot)?, ..opened };
        check_asks_what_was_answered(&opened)?;
        Ok(opened)
    }

    /// Seals runs anew with the active key, from `after` on, at most `limit` of them.
    ///
    /// Can be stopped and gone on with at any time; a run that is being driven is left to its
    /// holder, who seals it with the active key at the next commit.
    ///
    /// # Errors
    /// When the store fails. What is wrong with single runs is in the report.
    pub async fn reseal(&self, after: Option<Cursor>, limit: usize) -> Result<ResealReport> {
        let hub = self.inner();
        let page = self.query(&Filter::default(), after, limit.max(1)).await?;
        let mut report = ResealReport { next: page.next, ..ResealReport::default() };
        for listed in page.items {
            report.runs += 1;
            let summary = match listed {
                Ok(summary) => summary,
                Err(unreadable) => {
                    report.unreadable.push(unreadable);
                    continue;
                }
            };
            let record = match hub.vault.get(summary.id).await {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                // What is sealed of it does not read back.
                Err(error) if error.kind() == ErrorKind::CorruptState => {
                    report.fail(summary.id, &error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let sealed = std::iter::once(&record.snapshot).chain(&record.inbox);
            if !sealed.into_iter().any(|part| hub.codec.needs_reseal(part)) {
                continue;
            }
            let now = hub.clock.now();
            if record.is_held(now) {
                report.busy += 1;
                continue;
            }
            let reseal = |sealed, part| hub.codec.reseal(sealed, binding(&record, part));
            let resealed = reseal(&record.snapshot, Part::Snapshot).and_then(|snapshot| {
                let inbox = record.inbox.iter().map(|item| reseal(item, Part::Inbox));
                Ok((snapshot, inbox.collect::<Result<Vec<_>>>()?))
            });
            let (snapshot, inbox) = match resealed {
                Ok(resealed) => resealed,
                Err(error) => {
                    report.fail(summary.id, &error);
                    continue;
                }
            };
            let change = Change {
                // As for an upgrade.
                epoch: Some(record.epoch.next()),
                snapshot: Some(snapshot),
                inbox: Some(inbox),
                ..Change::at(now)
            };
            match hub.vault.update(record.id, record.revision, change).await {
                Ok(_) => report.resealed += 1,
                Err(error) if error.is_conflict() => report.busy += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(report)
    }
}

/// All that the owner of a run may see of it.
pub(super) fn view_of(opened: Opened) -> RunView {
    let accepted = pending_receipts(&opened);
    let cancelling = pending_cancellation(&opened).cloned();
    let Opened { record, snapshot, .. } = opened;
    let positions = if matches!(snapshot.status, RunStatus::Completed) {
        Vec::new()
    } else {
        snapshot.positions()
    };
    RunView {
        run_id: record.id,
        flow_id: record.flow_id,
        fingerprint: snapshot.flow.fingerprint,
        status: record.status,
        positions,
        input: Arc::unwrap_or_clone(snapshot.input),
        waits: snapshot
            .waits
            .iter()
            .filter(|_| !record.status.is_final())
            .filter(|wait| accepted.iter().all(|receipt| receipt.wait_id != wait.id))
            .map(|wait| SuspendedWait::new(wait, None))
            .collect(),
        accepted,
        cancelling,
        receipts: snapshot.receipts,
        earlier_receipts: snapshot.earlier_receipts,
        output: snapshot.output,
        ended: snapshot.ended,
        metadata: record.metadata,
        created_at: record.id.created_at(),
        updated_at: record.updated_at,
        due_at: record.due_at,
        driven_by: record.lease.map(|lease| lease.owner),
        document: snapshot.flow.document,
    }
}

pub(super) fn busy(run: RunId) -> Error {
    Error::new(ErrorKind::RunBusy, "the run is being driven; try again when it is parked")
        .with_run(run)
}

/// Makes sure that an upgraded state asks what its inbox answers.
///
/// # Errors
/// `FlowIncompatible` where it asks something else.
fn check_asks_what_was_answered(upgraded: &Opened) -> Result<()> {
    let Opened { record, snapshot, inbox } = upgraded;
    for item in inbox {
        if let Accept::Answer { wait_id, receipt, .. } = &item.what
            && let Some(wait) = snapshot.wait(wait_id)
            && wait.check_asked(record.id, receipt).is_err()
        {
            return Err(unusable(
                snapshot,
                wait,
                "what was asked before was answered; drive it first",
            ));
        }
    }
    Ok(())
}

/// The runs of a flow that have not ended.
fn live_runs_of(flow: &FlowDef) -> Filter {
    Filter::new().flow_id(flow.id.clone()).live()
}

/// The parked runs with a deadline that has passed by then.
pub(super) fn overdue_at(now: Timestamp) -> Filter {
    // A deadline has passed at its very moment.
    Filter::new().status(RunStatus::Waiting).expires_before(now.after(Duration::from_millis(1)))
}
