//! The lower half alone: suspends any serializable state, for callers with an engine of their own.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    HubEvent, Inner, PersistenceHub,
    accept::{Found, refusal},
    claims::Taken,
    inbox::{Accept, InboxItem},
    pending::is_cancelled,
    plain::Plain,
    state_claim::StateClaim,
    suspension::{Suspended, SuspensionRequest},
    vault::Opened,
};
use crate::{
    Error, ErrorKind, Failure, Result,
    clock::Timestamp,
    codes,
    engine::{Ended, FlowStamp, RunStatus, Snapshot, StepState},
    id::{RunId, SuspensionKey, WaitId},
    position::Position,
    store::{Change, Queue, Record},
    value::{from_value, to_value},
    wait::{Answer, Cancellation, Closed, ContentDigest, Receipt, Wait},
};

/// The flow id under which states without a flow are stored.
pub(super) const STATE_FLOW: &str = "@state";

impl PersistenceHub {
    /// Stores any serializable state until somebody presents the key with an input that fits.
    ///
    /// Durable when it returns. What its deadline does needs somebody who looks: without a default a
    /// worker lets the state expire ([`PersistenceHub::work`]); with one, it is given with that to whoever
    /// asks for states that go on ([`PersistenceHub::claim_states`]).
    ///
    /// # Errors
    /// `SerializationError` for what JSON would change; `LimitExceeded` for a shown value or a default
    /// that nests too deep; `InvalidArgument` for a default that does not fit the schema, and for
    /// metadata that no store can hold; `StateTooLarge`; what the store fails with.
    pub async fn suspend<S: Serialize + Sync>(
        &self,
        state: &S,
        request: SuspensionRequest,
    ) -> Result<Suspended> {
        let hub = self.inner();
        let now = hub.clock.now();
        let run = RunId::new(now)?;
        let stamp = FlowStamp::unstamped(STATE_FLOW.into());
        let mut snapshot = Snapshot::start(run, stamp, &Vec::new(), Value::Null);
        let key = self.ask(&mut snapshot, to_value(state)?, request, now)?;
        let plain = Plain::parked(&snapshot, Queue::states(), now, hub);
        hub.vault.insert(&hub.seal_first(&mut snapshot, plain, now)?).await?;
        snapshot.waits.iter().for_each(|wait| hub.tell(HubEvent::wait_opened(run, wait)));
        let expires_at = snapshot.waits.iter().filter_map(|wait| wait.expires_at).min();
        Ok(Suspended { run_id: run, key, suspended_at: now, expires_at })
    }

    /// Opens a wait in a stored state.
    pub(super) fn ask(
        &self,
        snapshot: &mut Snapshot,
        state: Value,
        request: SuspensionRequest,
        now: Timestamp,
    ) -> Result<SuspensionKey> {
        let SuspensionRequest { tool_id, request } = request;
        for value in [&request.shown, &request.default].into_iter().flatten() {
            crate::value::check_depth(value)?;
        }
        if let Some(default) = &request.default
            && let Err(violations) = request.schema.validate(default)
        {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "the default does not fit the schema",
            )
            .with("tool", &tool_id)
            .with_violations(violations));
        }
        let hub = self.inner();
        let key = hub.keys.generate(snapshot.run_id)?;
        snapshot.opened_waits += 1;
        let id = WaitId::from(format!("{tool_id}#{}", snapshot.opened_waits));
        let expires_at = request.deadline.ends_at(now, hub.options.default_timeout);
        let position = Position::default().join(tool_id.as_str().into(), 1);
        snapshot.status = RunStatus::Waiting;
        snapshot.root.value = state.into();
        snapshot.root.state = StepState::Waiting { wait: id.clone() };
        snapshot.waits = vec![Wait {
            keys: vec![key.digest()],
            notified: true,
            ..Wait::open(snapshot.run_id, id, tool_id, position, request, now, expires_at)
        }];
        Ok(key)
    }

    /// Gives a suspended state back with an input that fits; it is this caller's for the time of a
    /// lease, which is renewed as long as the claim is held.
    ///
    /// After the deadline the default is given in place of the input. After a crash of the caller
    /// the same key and input are given the claim again.
    ///
    /// # Errors
    /// `SuspensionKeyNotFound`; `AlreadyResumed` with the receipt, also for the same `request_id` once
    /// the claim was completed; `SuspensionExpired`; `RunCancelled` for a state that was cancelled
    /// after its input was accepted; `RunBusy` while another caller holds the claim; `InvalidState` for
    /// a key of a run of a flow; `InputValidationError`; `LimitExceeded` as for
    /// [`PersistenceHub::answer`]; `SerializationError` when the state does not read back as `S`,
    /// nothing being consumed; `EncryptionError` and `CorruptState` where it does not open, or was
    /// answered for another question; what the store fails with.
    pub async fn resume_state<S: DeserializeOwned>(
        &self,
        key: &SuspensionKey,
        answer: impl Into<Answer>,
    ) -> Result<StateClaim<S>> {
        let hub = self.inner();
        let answer = answer.into();
        loop {
            let found = hub.find(key).await?;
            self.check_is_state(found.opened())?;
            let (opened, wait) = match found {
                Found::Open(opened, wait) => (opened, wait),
                Found::Closed(opened, receipt) => {
                    match self.give_again(*opened, key, &answer, receipt).await {
                        // Somebody was faster; look again at what they did.
                        Err(error) if error.is_conflict() => continue,
                        given => return given,
                    }
                }
            };
            check_reads::<S>(&opened)?;
            let now = hub.clock.now();
            if wait.is_over(now) {
                let run = opened.record.id;
                match hub.expire_state(*opened, now).await {
                    Ok(Expiry::Expired(receipt)) => return Err(refusal(receipt).with_run(run)),
                    Ok(Expiry::Defaulted | Expiry::NotDue) => continue,
                    Err(error) if error.is_conflict() => continue,
                    Err(error) => return Err(error),
                }
            }
            hub.check_input(&wait, &wait.request.schema, &answer)?;
            let receipt = wait.answered(&answer, now);
            let what = Accept::Answer { wait_id: wait.id.clone(), answer: answer.clone(), receipt };
            match self.take_state(*opened, Some(InboxItem { at: now, what })).await {
                Ok(opened) => return StateClaim::of(self, opened).await,
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// States that were resumed and whose caller went away, and those whose deadline passed with a
    /// default: given to this caller, at most `limit` of them.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn claim_states<S: DeserializeOwned>(
        &self,
        limit: usize,
    ) -> Result<Vec<StateClaim<S>>> {
        let hub = self.inner();
        let mut claims = Vec::new();
        for record in hub.claim(vec![Queue::states()], limit).await? {
            let taken = Taken::claimed(&record);
            match self.claim_one(record).await {
                Ok(Some(claim)) => {
                    hub.skips.forget(claim.run_id);
                    claims.push(claim);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(run = %taken.id, %error, "a suspended state was left alone");
                    hub.release(&taken).await;
                }
            }
        }
        Ok(claims)
    }

    /// Gives out a state whose lease was just taken, if there is an input for it.
    async fn claim_one<S: DeserializeOwned>(
        &self,
        record: Record,
    ) -> Result<Option<StateClaim<S>>> {
        let hub = self.inner();
        let run = record.id;
        let opened = Opened::unseal(&hub.codec, record)?;
        opened.verify()?;
        // Its queue stands in the plain part of a record, and can be changed without a key.
        if opened.record.flow_id != STATE_FLOW {
            let message = "the run of a flow is in the queue of states without one";
            return Err(Error::new(ErrorKind::CorruptState, message).with_run(run));
        }
        if is_cancelled(&opened) {
            hub.cancel_state(opened).await?;
            return Ok(None);
        }
        if accepted(&opened).is_some() {
            return StateClaim::of(self, opened).await.map(Some);
        }
        if opened.snapshot.waits.is_empty() {
            return Ok(None);
        }
        match hub.expire_state(opened, hub.clock.now()).await? {
            Expiry::Defaulted => {
                let opened = hub.open_verified(run).await?;
                if accepted(&opened).is_none() {
                    // Somebody else was given it in the meantime, and is done with it.
                    return Ok(None);
                }
                StateClaim::of(self, self.take_state(opened, None).await?).await.map(Some)
            }
            Expiry::Expired(_) => Ok(None),
            Expiry::NotDue => Err(Error::new(
                ErrorKind::InvalidState,
                "the state is not due: the clocks of those who share the store differ",
            )
            .with_run(run)),
        }
    }

    fn check_is_state(&self, opened: &Opened) -> Result<()> {
        if opened.record.flow_id == STATE_FLOW {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidState, "the key is of a run of a flow; use `resume`")
            .with_run(opened.record.id))
    }

    /// Gives a claim to the caller of an answer that was accepted before, if nobody holds it.
    async fn give_again<S: DeserializeOwned>(
        &self,
        opened: Opened,
        key: &SuspensionKey,
        answer: &Answer,
        closed: Receipt,
    ) -> Result<StateClaim<S>> {
        let run = opened.record.id;
        if opened.record.status == RunStatus::Cancelled && closed.closed != Closed::Cancelled {
            return Err(cancelled(run));
        }
        let digest = ContentDigest::of_value(&answer.input);
        let mine = accepted(&opened).is_some_and(|(_, receipt)| {
            // The key of an earlier wait of the state entitles to nothing of this one.
            receipt.is_opened_by(&key.digest())
                && (receipt.closed == Closed::Defaulted || receipt.input.as_ref() == Some(&digest))
        });
        if !mine {
            return Err(refusal(closed).with_run(run));
        }
        check_reads::<S>(&opened)?;
        StateClaim::of(self, self.take_state(opened, None).await?).await
    }

    /// Takes the lease of a state, with an item for its inbox in the same write.
    async fn take_state(&self, opened: Opened, item: Option<InboxItem>) -> Result<Opened> {
        let hub = self.inner();
        let now = hub.clock.now();
        if is_cancelled(&opened) {
            let run = opened.record.id;
            if !opened.record.is_held(now) {
                hub.cancel_state(opened).await?;
            }
            return Err(cancelled(run));
        }
        if opened.record.is_held(now) {
            return Err(Error::new(
                ErrorKind::RunBusy,
                "the state was given to a caller who has not completed it yet",
            )
            .with_run(opened.record.id));
        }
        let change = hub.lease_change(&opened.record);
        hub.write(opened, change, item).await
    }
}

impl Inner {
    /// Lets the deadline of a state's wait do what it does: a default is accepted as if it were an
    /// answer; without one the state expires.
    ///
    /// # Errors
    /// `Conflict` if the record has changed since it was read.
    pub(super) async fn expire_state(&self, mut opened: Opened, now: Timestamp) -> Result<Expiry> {
        let Some(wait) = overdue(&opened, now) else { return Ok(Expiry::NotDue) };
        let Some(default) = wait.request.default.clone() else {
            let receipt = wait.receipt(Closed::TimedOut, now);
            opened.snapshot.waits.clear();
            opened.snapshot.keep(receipt.clone());
            opened.snapshot.status = RunStatus::Expired;
            let message = "nobody answered in time";
            opened.snapshot.ended = Some(Ended::Failed(Failure {
                tool_id: Some(wait.tool_id.clone()),
                ..Failure::permanent(codes::WAIT_TIMED_OUT, message, wait.position.clone())
            }));
            self.rewrite(opened, vec![receipt.clone()], now).await?;
            return Ok(Expiry::Expired(receipt));
        };
        let answer = Answer::new(default);
        let mut receipt = wait.answered(&answer, now);
        receipt.closed = Closed::Defaulted;
        let what = Accept::Answer { wait_id: wait.id.clone(), answer, receipt };
        let change = Change {
            status: Some(RunStatus::Ready),
            lease: Some(None),
            due_at: Some(Some(now)),
            ..Change::at(now)
        };
        self.write(opened, change, Some(InboxItem { at: now, what })).await?;
        Ok(Expiry::Defaulted)
    }

    /// Ends a state that was cancelled while nobody held it, or whose holder suspends it anew.
    pub(super) async fn cancel_state(&self, mut opened: Opened) -> Result<()> {
        let now = self.clock.now();
        let cancelled = opened.inbox.iter().find_map(|item| match &item.what {
            Accept::Cancel(cancellation) => Some((cancellation.clone(), item.at)),
            _ => None,
        });
        let (cancellation, at) = cancelled.unwrap_or_else(|| (Cancellation::new(), now));
        let answered = accepted(&opened).map(|(_, receipt)| receipt);
        let waits = std::mem::take(&mut opened.snapshot.waits).into_iter();
        let cancel = |wait| opened.with_added_keys(wait).receipt(Closed::Cancelled, at);
        let closed: Vec<Receipt> =
            waits.map(|wait| answered.clone().unwrap_or_else(|| cancel(wait))).collect();
        closed.iter().for_each(|receipt| opened.snapshot.keep(receipt.clone()));
        opened.snapshot.status = RunStatus::Cancelled;
        opened.snapshot.ended = Some(Ended::Cancelled(cancellation));
        self.rewrite(opened, closed, now).await
    }
}

/// Makes sure that nothing is consumed, and no lease taken, for a caller who can't use the state.
fn check_reads<S: DeserializeOwned>(opened: &Opened) -> Result<()> {
    let read = from_value::<S>(&opened.snapshot.root.value);
    read.map(drop).map_err(|error| error.with_run(opened.record.id))
}

/// What a deadline did to a state.
pub(super) enum Expiry {
    /// Its default was accepted.
    Defaulted,
    /// It has expired, and leaves this receipt.
    Expired(Receipt),
    /// Nothing: it was answered or cancelled, or has more time.
    NotDue,
}

/// What callers hear of a state that was cancelled.
pub(super) fn cancelled(run: RunId) -> Error {
    Error::new(ErrorKind::RunCancelled, "the state was cancelled").with_run(run)
}

/// The wait of a state that is left to its deadline, with all of its keys.
pub(super) fn overdue(opened: &Opened, now: Timestamp) -> Option<Wait> {
    if accepted(opened).is_some() || is_cancelled(opened) {
        return None;
    }
    let wait = opened.snapshot.waits.first()?;
    wait.is_over(now).then(|| opened.with_added_keys(wait.clone()))
}

/// The input that was accepted for the open wait of a state, and its receipt.
pub(super) fn accepted(opened: &Opened) -> Option<(Value, Receipt)> {
    opened.inbox.iter().find_map(|item| match &item.what {
        // An answer to an earlier wait can only have been put back.
        Accept::Answer { wait_id, answer, receipt } if opened.snapshot.wait(wait_id).is_some() => {
            Some((answer.input.clone(), receipt.clone()))
        }
        _ => None,
    })
}
