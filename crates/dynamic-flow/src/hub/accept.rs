//! Accepting things for runs: answers, keys, cancellations, retries.

use std::sync::Arc;

use super::{
    Inner, Known, drive,
    inbox::{Accept, InboxItem},
    lease::lock,
    outcome::{Accepted, Outcome},
    pending::{is_cancelled, pending_receipt},
    vault::Opened,
};
use crate::{
    Error, ErrorKind, Result,
    engine::RunStatus,
    id::{FlowId, RunId, SuspensionKey, WaitId},
    schema::Schema,
    store::{Change, Lease, Record},
    wait::{Answer, Cancellation, Closed, Receipt, Wait},
};

/// How many keys a wait may have: the first, and those that were reissued.
const MAX_KEYS_PER_WAIT: usize = 16;
/// How long what is kept of a request beside its input may be, in bytes.
const MAX_WORDS: usize = 1024;

/// What became of something that was to be accepted.
pub(super) enum Submitted {
    /// It is durable, and this hub has the lease: the run is to be driven.
    Leased(Box<Opened>, Arc<Known>),
    /// It is durable, and somebody else drives the run, or will.
    Left,
}

impl Inner {
    /// Accepts an answer; with `of`, only to a run of that flow. Takes the lease if the run is to be
    /// driven and nobody has it.
    pub(super) async fn accept(
        self: &Arc<Self>,
        key: &SuspensionKey,
        answer: &Answer,
        of: Option<&FlowId>,
        drive: bool,
    ) -> Result<(Accepted, Submitted)> {
        let mut perhaps_accepted: Option<Receipt> = None;
        loop {
            let found = self.find(key).await?;
            let record = &found.opened().record;
            let run_id = record.id;
            if of.is_some_and(|flow| *flow != record.flow_id) {
                return Err(Error::new(
                    ErrorKind::InvalidState,
                    "the key is of a run of another flow; use a handle of that one, or the hub",
                )
                .with_run(run_id)
                .with("flow", &record.flow_id));
            }
            let (opened, wait) = match found {
                Found::Open(opened, wait) => (opened, wait),
                Found::Closed(opened, receipt) => {
                    let status = opened.record.status;
                    let told =
                        |repeated| Accepted { run_id, receipt: receipt.clone(), repeated, status };
                    if perhaps_accepted.is_some_and(|mine| mine.is_same_answer(&receipt)) {
                        return Ok((told(false), Submitted::Left));
                    }
                    if receipt.is_of(answer) {
                        return Ok((told(true), Submitted::Left));
                    }
                    return Err(refusal(receipt).with_run(run_id));
                }
            };
            let now = self.clock.now();
            if opened.record.status.is_final() {
                return Err(takes_no_answers(run_id));
            }
            if wait.is_over(now) {
                self.time_out(*opened, &wait, drive).await?;
                continue;
            }
            let flow = match (self.known_flow(&opened.snapshot), drive) {
                (Ok(flow), _) => Some(self.fit(&opened, flow)?),
                (Err(error), true) => return Err(error.with_run(run_id)),
                (Err(_), false) => None,
            };
            let carried = match &flow {
                Some(flow) => flow.carried(&opened.snapshot, &wait)?,
                None => None,
            };
            let asks = carried.as_ref().unwrap_or(&wait);
            let schema = match &flow {
                Some(flow) => flow.compiled(asks, &opened.snapshot.root),
                None => &wait.request.schema,
            };
            self.check_input(&wait, schema, answer).map_err(|error| error.with_run(run_id))?;
            let receipt = wait.answered(answer, now);
            let what = Accept::Answer {
                wait_id: wait.id.clone(),
                answer: answer.clone(),
                receipt: receipt.clone(),
            };
            match self.submit(*opened, InboxItem { at: now, what }, flow.filter(|_| drive)).await {
                Ok((status, submitted)) => {
                    let accepted = Accepted { run_id, receipt, repeated: false, status };
                    return Ok((accepted, submitted));
                }
                // Somebody was faster; look again at what they did. It may have been done to this
                // answer, if a try that seemed to fail has written it.
                Err(error) if error.is_conflict() => {
                    if error.is_perhaps_written() {
                        perhaps_accepted = Some(receipt);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Finds what a key entitles to. Every wrong key gets the same error.
    pub(super) async fn find(&self, key: &SuspensionKey) -> Result<Found> {
        let Some(record) = self.vault.get(key.run_id()).await? else {
            return Err(SuspensionKey::not_found());
        };
        let digest = key.digest();
        let indexed = record
            .waits
            .iter()
            .flat_map(|wait| &wait.keys)
            .fold(false, |found, key| key.matches(&digest) | found);
        let opened = match Opened::unseal(&self.codec, record) {
            Ok(opened) => opened,
            Err(error) if indexed => return Err(error),
            Err(_) => return Err(SuspensionKey::not_found()),
        };
        // With the keys that were added since: its receipt must be known to their holders, too.
        let wait = opened.wait_by_key(&digest).map(|wait| opened.with_added_keys(wait.clone()));
        let receipt = closed_by_key(&opened, &digest);
        if wait.is_none() && receipt.is_none() && !indexed {
            return Err(SuspensionKey::not_found());
        }
        opened.verify()?;
        let pending = || wait.as_ref().and_then(|wait| pending_receipt(&opened, wait));
        if let Some(receipt) = receipt.or_else(pending) {
            return Ok(Found::Closed(Box::new(opened), receipt));
        }
        match wait {
            Some(wait) => Ok(Found::Open(Box::new(opened), Box::new(wait))),
            None => Err(SuspensionKey::not_found()),
        }
    }

    /// Holds an answer against the schema of its wait, which somebody may have compiled already.
    pub(super) fn check_input(&self, wait: &Wait, schema: &Schema, answer: &Answer) -> Result<()> {
        self.check_bounds(&answer.input)?;
        check_words("by", answer.by.as_deref())?;
        check_words("request_id", answer.request_id.as_deref())?;
        schema.validate(&answer.input).map_err(|violations| {
            let n = violations.len();
            let what = if n == 1 { "in one place" } else { "in several places" };
            Error::new(
                ErrorKind::InputValidationError,
                format!("the input does not fit the schema {what}; the wait stays open"),
            )
            .with("wait", &wait.id)
            .with("violations", n)
            .with_violations(violations)
        })
    }

    /// Lets the deadline of a wait do what it does, so that the caller can be told.
    async fn time_out(self: &Arc<Self>, opened: Opened, wait: &Wait, drive: bool) -> Result<()> {
        let run_id = opened.record.id;
        let expired = || deadline_passed(run_id, wait);
        if !drive {
            return Err(expired());
        }
        let flow = self.fitting_flow(&opened).map_err(|_| expired())?;
        match self.take(opened).await {
            Ok(Some(opened)) => match drive::go_on(self.clone(), flow, opened).await {
                // What follows from it is the run's affair, not that of whoever came too late.
                Ok(_) => Ok(()),
                Err(error) if error.kind() == ErrorKind::RunBusy => Ok(()),
                Err(error) => Err(error),
            },
            Ok(None) => Err(expired()),
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes the lease of a run as it was read, if nobody has it.
    ///
    /// # Errors
    /// `Conflict` if the record has changed since.
    pub(super) async fn take(&self, opened: Opened) -> Result<Option<Opened>> {
        if opened.record.is_held(self.clock.now()) || self.is_stopping() {
            return Ok(None);
        }
        let change = self.lease_change(&opened.record);
        self.write(opened, change, None).await.map(Some)
    }

    /// The change by which this hub takes the lease of a record.
    pub(super) fn lease_change(&self, record: &Record) -> Change {
        let now = self.clock.now();
        let until = now.after(self.options.lease);
        Change {
            epoch: Some(record.epoch.next()),
            // Whoever held it before is gone and left it as it was.
            attempts: record.lease.as_ref().map(|_| record.attempts + 1),
            status: Some(RunStatus::Running),
            due_at: Some(Some(until)),
            lease: Some(Some(Lease { owner: self.owner.clone(), until })),
            ..Change::at(now)
        }
    }

    /// Changes plain columns of a run as it was read, and appends an item to its inbox.
    ///
    /// # Errors
    /// `Conflict` if the record has changed since.
    pub(super) async fn write(
        &self,
        mut opened: Opened,
        mut change: Change,
        item: Option<InboxItem>,
    ) -> Result<Opened> {
        if let Some(item) = &item {
            change.inbox_push = vec![opened.seal_item(&self.codec, item)?];
        }
        let Record { id, revision, .. } = opened.record;
        self.vault.update(id, revision, change.clone()).await?;
        change.apply(&mut opened.record);
        opened.inbox.extend(item);
        Ok(opened)
    }

    /// Appends an item to the inbox, and in the same write takes the lease if `flow` is given and
    /// nobody has it.
    ///
    /// # Errors
    /// `Conflict` if the record has changed since it was read.
    pub(super) async fn submit(
        self: &Arc<Self>,
        opened: Opened,
        item: InboxItem,
        flow: Option<Arc<Known>>,
    ) -> Result<(RunStatus, Submitted)> {
        let record = &opened.record;
        let now = self.clock.now();
        // A lease on a run that has ended is that of a worker about to remove it: it is too late.
        let live = !record.status.is_final() && record.is_held(now);
        let mut change = match (&flow, live) {
            (Some(_), false) if !self.is_stopping() => self.lease_change(record),
            (_, true) => Change::at(now),
            (_, false) => Change {
                status: Some(RunStatus::Ready),
                due_at: Some(Some(now)),
                queue: Some(Some(self.queue_of(&opened.snapshot))),
                ..Change::at(now)
            },
        };
        if matches!(item.what, Accept::Retry) {
            change.queue = Some(Some(self.queue_of(&opened.snapshot)));
        }
        let leased = change.lease.is_some();
        let opened = self.write(opened, change, Some(item)).await?;
        if live && let Some(active) = lock(&self.active).get(&opened.record.id) {
            active.signal();
        }
        let status = opened.record.status;
        match flow {
            Some(flow) if leased => Ok((status, Submitted::Leased(Box::new(opened), flow))),
            _ => Ok((status, Submitted::Left)),
        }
    }

    /// Adds a key to an open wait.
    pub(super) async fn reissue(
        self: &Arc<Self>,
        run: RunId,
        wait: &WaitId,
    ) -> Result<SuspensionKey> {
        let mut perhaps_added: Option<SuspensionKey> = None;
        loop {
            let opened = self.open_verified(run).await?;
            let index = opened.record.waits.iter().position(|known| known.id == *wait);
            let Some(index) = index else {
                return Err(Error::new(
                    ErrorKind::InvalidState,
                    "the run has no open wait of that id; `show` lists those that it has",
                )
                .with_run(run)
                .with("wait", wait));
            };
            if let Some(receipt) =
                opened.snapshot.wait(wait).and_then(|wait| pending_receipt(&opened, wait))
            {
                return Err(refusal(receipt).with_run(run));
            }
            let now = self.clock.now();
            if opened.record.waits[index].is_over(now) {
                return Err(Error::new(
                    ErrorKind::SuspensionExpired,
                    "the deadline has passed; no key can answer the wait any more",
                )
                .with_run(run)
                .with("wait", wait));
            }
            let keys = &opened.record.waits[index].keys;
            if let Some(key) = perhaps_added.take_if(|key| keys.contains(&key.digest())) {
                return Ok(key);
            }
            if keys.len() >= MAX_KEYS_PER_WAIT {
                return Err(Error::new(ErrorKind::LimitExceeded, "the wait has too many keys")
                    .with_run(run)
                    .with("wait", wait)
                    .with("limit", MAX_KEYS_PER_WAIT));
            }
            let key = self.keys.generate(run)?;
            let what = Accept::Key { wait_id: wait.clone(), digest: key.digest() };
            let item = InboxItem { at: now, what };
            let sealed = opened.seal_item(&self.codec, &item)?;
            let mut waits = opened.record.waits.clone();
            waits[index].keys.push(key.digest());
            let change = Change { waits: Some(waits), inbox_push: vec![sealed], ..Change::at(now) };
            match self.vault.update(run, opened.record.revision, change).await {
                Ok(_) => return Ok(key),
                Err(error) if error.is_conflict() => {
                    perhaps_added = Some(key).filter(|_| error.is_perhaps_written());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Accepts a cancellation. Works without the flow's code: what a cancelled run leaves behind
    /// does not depend on it.
    pub(super) async fn cancel(
        self: &Arc<Self>,
        run: RunId,
        cancellation: Cancellation,
    ) -> Result<RunStatus> {
        let Cancellation { by, reason } = &cancellation;
        check_words("by", by.as_deref()).map_err(|error| error.with_run(run))?;
        check_words("reason", reason.as_deref()).map_err(|error| error.with_run(run))?;
        loop {
            let opened = self.open_verified(run).await?;
            let status = opened.record.status;
            if status == RunStatus::Cancelled || is_cancelled(&opened) {
                return Ok(RunStatus::Cancelled);
            }
            if status.is_final() {
                return Err(Error::new(
                    ErrorKind::InvalidState,
                    format!("the run has ended already: it is {status}"),
                )
                .with_run(run));
            }
            let flow = match self.fitting_flow(&opened) {
                Ok(flow) => Some(flow),
                Err(_)
                    if (opened.inbox.iter())
                        .all(|item| matches!(item.what, Accept::Key { .. } | Accept::Spent)) =>
                {
                    Some(Arc::new(Known::nothing(&opened.snapshot)))
                }
                // An answer comes first, and only who has code that fits can work it in.
                Err(_) => None,
            };
            let what = Accept::Cancel(cancellation.clone());
            let item = InboxItem { at: self.clock.now(), what };
            match self.submit(opened, item, flow).await {
                Ok((_, Submitted::Leased(opened, flow))) => {
                    return Ok(drive::go_on(self.clone(), flow, *opened).await?.status());
                }
                Ok((status, Submitted::Left)) => return Ok(status),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes a failed or expired run go on from the step that failed.
    pub(super) async fn retry(self: &Arc<Self>, run: RunId) -> Result<Submitted> {
        let mut perhaps_retried = false;
        loop {
            let opened = self.open_verified(run).await?;
            let status = opened.record.status;
            if perhaps_retried && !status.is_final() {
                return Ok(Submitted::Left);
            }
            if !matches!(status, RunStatus::Failed | RunStatus::Expired) {
                return Err(Error::new(
                    ErrorKind::InvalidState,
                    format!("only a failed or expired run can be retried: this one is {status}"),
                )
                .with_run(run));
            }
            let flow = self.fitting_flow(&opened)?;
            let item = InboxItem { at: self.clock.now(), what: Accept::Retry };
            match self.submit(opened, item, Some(flow)).await {
                Ok((_, submitted)) => return Ok(submitted),
                Err(error) if error.is_conflict() => perhaps_retried |= error.is_perhaps_written(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads a run that must be there, opened and checked.
    pub(super) async fn open_verified(&self, run: RunId) -> Result<Opened> {
        let opened = Opened::unseal(&self.codec, self.vault.require(run).await?)?;
        opened.verify()?;
        Ok(opened)
    }

    /// Drives what was submitted, or waits for whoever does.
    pub(super) async fn finish(
        self: &Arc<Self>,
        run: RunId,
        submitted: Submitted,
    ) -> Result<Outcome> {
        match submitted {
            Submitted::Leased(opened, flow) => {
                drive::go_on(self.clone(), flow, *opened).await?.outcome()
            }
            Submitted::Left => self.await_outcome(run).await,
        }
    }
}

/// What a key entitles to.
pub(super) enum Found {
    /// To answer an open wait.
    Open(Box<Opened>, Box<Wait>),
    /// To hear what closed the wait, or what was accepted for it and closes it.
    Closed(Box<Opened>, Receipt),
}

impl Found {
    /// The run.
    pub(super) fn opened(&self) -> &Opened {
        match self {
            Self::Open(opened, _) | Self::Closed(opened, _) => opened,
        }
    }
}

/// The refusal of an answer to a run that failed where it was committed last, with its waits open.
pub(super) fn takes_no_answers(run: RunId) -> Error {
    let message = "the run has failed and takes no answers until it is retried";
    Error::new(ErrorKind::InvalidState, message).with_run(run)
}

/// The refusal of what comes after the deadline, while nothing has taken its place.
pub(super) fn deadline_passed(run: RunId, wait: &Wait) -> Error {
    let message = match wait.request.default {
        Some(_) => "the deadline has passed; the wait's default takes the answer's place",
        None => "the deadline has passed",
    };
    Error::new(ErrorKind::SuspensionExpired, message).with_run(run).with("wait", &wait.id)
}

/// The receipt of the closed wait that a key of that digest could have answered.
fn closed_by_key(opened: &Opened, digest: &crate::id::KeyDigest) -> Option<Receipt> {
    opened.snapshot.receipts.iter().rev().find(|receipt| receipt.is_opened_by(digest)).cloned()
}

/// Refuses what is too long to be kept in receipts for ever.
fn check_words(name: &'static str, words: Option<&str>) -> Result<()> {
    let size = words.map_or(0, str::len);
    if size <= MAX_WORDS {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::LimitExceeded,
        format!("`{name}` is too long; say it in fewer words"),
    )
    .with("size", size)
    .with("limit", MAX_WORDS))
}

/// What the holder of a right key hears who came too late.
pub(super) fn refusal(receipt: Receipt) -> Error {
    let (kind, message) = match receipt.closed {
        Closed::TimedOut => (ErrorKind::SuspensionExpired, "the deadline has passed"),
        Closed::Answered => (ErrorKind::AlreadyResumed, "the wait was answered before"),
        Closed::Defaulted => {
            (ErrorKind::AlreadyResumed, "the deadline has passed and the default was taken")
        }
        Closed::Cancelled => (ErrorKind::AlreadyResumed, "the run was cancelled"),
        Closed::Superseded => (ErrorKind::AlreadyResumed, "the flow went on without an answer"),
    };
    Error::new(kind, message)
        .with("wait", &receipt.wait_id)
        .with("at", receipt.at)
        .with_receipt(receipt)
}
