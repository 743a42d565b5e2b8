//! A stored state in the hands of a caller: its input, and the ways to be done with it.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    HubEvent, Inner, PersistenceHub,
    claims::Taken,
    lease::{Active, Hold},
    pending::is_cancelled,
    plain::{Plain, worked_in},
    state::{accepted, cancelled},
    suspension::{Suspended, SuspensionRequest},
    vault::{Opened, binding},
};
use crate::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    codec::Part,
    engine::RunStatus,
    id::{Epoch, RunId},
    seconds,
    store::{Change, Queue, Record},
    value::{from_value, to_value},
    wait::Receipt,
};

/// How soon a state is offered again that was dropped: whoever fails over it at once should not be
/// given it over and over.
const GIVEN_AGAIN_AFTER: Duration = seconds(1);

/// A state that was given back with its input, and is this caller's until it is completed,
/// suspended anew or released; then it is given again.
///
/// One that is dropped is given back in the background, where a tokio runtime is at hand: whoever has
/// the key gets it at once, `claim_states` a second later. Elsewhere, and where the process ends before,
/// its lease lapses.
#[must_use = "complete it or suspend it anew, or it is given again"]
#[non_exhaustive]
pub struct StateClaim<S> {
    /// The run under which the state is stored.
    pub run_id: RunId,
    /// The state as it was suspended.
    pub state: S,
    /// The input that was accepted, or the default.
    pub input: Value,
    /// When it was resumed.
    pub resumed_at: Timestamp,
    /// What the wait took.
    pub receipt: Receipt,
    held: Held,
}

/// A state whose lease this caller has.
struct Held {
    hub: PersistenceHub,
    opened: Box<Opened>,
    /// Its lease; none once the caller is done with it.
    hold: Option<Hold>,
}

impl<S: DeserializeOwned> StateClaim<S> {
    /// A claim of a state whose lease was just taken.
    pub(super) async fn of(hub: &PersistenceHub, opened: Opened) -> Result<Self> {
        let inner = hub.inner();
        let run_id = opened.record.id;
        let (input, receipt) = accepted(&opened).ok_or_else(|| {
            Error::new(ErrorKind::CorruptState, "the state has no accepted input").with_run(run_id)
        })?;
        if let Some(wait) = opened.snapshot.wait(&receipt.wait_id) {
            wait.check_asked(run_id, &receipt)?;
        }
        let state =
            from_value(&opened.snapshot.root.value).map_err(|error| error.with_run(run_id))?;
        let active = Arc::new(Active::default());
        let epoch = opened.record.epoch;
        let hold = inner.keeper.hold(run_id, epoch, &active, &inner.clock);
        if let Some(lease) = &opened.record.lease {
            inner.secure(run_id, epoch, lease.until).await?;
        }
        Ok(Self {
            run_id,
            state,
            input,
            resumed_at: inner.clock.now(),
            receipt,
            held: Held { hub: hub.clone(), opened: Box::new(opened), hold: Some(hold) },
        })
    }
}

impl<S> fmt::Debug for StateClaim<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateClaim")
            .field("run_id", &self.run_id)
            .field("resumed_at", &self.resumed_at)
            .field("receipt", &self.receipt)
            .finish_non_exhaustive()
    }
}

impl<S> StateClaim<S> {
    /// State, input and claim, each for itself: to go on with the first two, and be done with the claim
    /// at the end, which has neither of them any more.
    ///
    /// ```
    /// # use dynamic_flow::{Schema, Result, hub::{PersistenceHub, StateClaim, SuspensionRequest}};
    /// # async fn sign(claim: StateClaim<Vec<String>>) -> Result<()> {
    /// let (mut pages, signature, claim) = claim.into_parts();
    /// pages.push(signature.to_string());
    /// match pages.len() {
    ///     3.. => claim.complete().await,
    ///     _ => claim.suspend(&pages, SuspensionRequest::new("sign", Schema::any())).await.map(drop),
    /// }
    /// # }
    /// ```
    pub fn into_parts(self) -> (S, Value, StateClaim<()>) {
        let Self { run_id, state, input, resumed_at, receipt, held } = self;
        let claim = StateClaim { run_id, state: (), input: Value::Null, resumed_at, receipt, held };
        (state, input, claim)
    }

    /// Says that the caller is done with the state; its receipt is kept for the retention. A
    /// cancellation that came in meanwhile is too late.
    ///
    /// # Errors
    /// `RunBusy` when the lease lapsed and somebody else has the claim by now.
    pub async fn complete(self) -> Result<()> {
        let Self { mut held, receipt, .. } = self;
        held.opened.snapshot.status = RunStatus::Completed;
        held.opened.snapshot.root.value = Arc::default();
        held.write_back(receipt).await
    }

    /// Suspends a new state under the same run: the claim ends, and a new key resumes it.
    ///
    /// # Errors
    /// As [`PersistenceHub::suspend`]; `RunBusy` as [`StateClaim::complete`]; `RunCancelled` when it
    /// was cancelled meanwhile: it has ended by that, and the new state is not kept.
    pub async fn suspend<T: Serialize + Sync>(
        self,
        state: &T,
        request: SuspensionRequest,
    ) -> Result<Suspended> {
        let Self { mut held, receipt, run_id, .. } = self;
        let now = held.hub.inner().clock.now();
        let key = held.hub.ask(&mut held.opened.snapshot, to_value(state)?, request, now)?;
        let expires_at = held.opened.snapshot.waits.iter().filter_map(|wait| wait.expires_at).min();
        held.write_back(receipt).await?;
        Ok(Suspended { run_id, key, suspended_at: now, expires_at })
    }

    /// Gives the claim back unused: the next caller gets it at once. A state that was cancelled
    /// meanwhile ends by that.
    ///
    /// # Errors
    /// `RunBusy` as [`StateClaim::complete`]; what the store fails with: it is then given back
    /// in the background, as one that is dropped.
    pub async fn release(self) -> Result<()> {
        let mut held = self.held;
        let hub = held.hub.inner();
        hub.let_go(Taken::of(&held.opened.record), hub.clock.now()).await?;
        held.hold = None;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.hold.take().is_none() {
            return;
        }
        let hub = self.hub.inner();
        let (taken, giving) = (Taken::of(&self.opened.record), hub.clone());
        hub.carry_out_unseen(async move {
            let run = taken.id;
            let again_at = giving.clock.now().after(GIVEN_AGAIN_AFTER);
            if let Err(error) = giving.let_go(taken, again_at).await {
                tracing::debug!(%run, %error, "the lease of a state is left to lapse");
            }
        });
    }
}

impl Inner {
    /// Gives a state back unused, to be offered again at that time. One that was cancelled meanwhile
    /// ends by that.
    async fn let_go(&self, mut taken: Taken, again_at: Timestamp) -> Result<()> {
        let change = taken.let_go(again_at, self.clock.now());
        loop {
            match self.vault.update(taken.id, taken.revision, change.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_conflict() => {
                    let there = self.still_held(taken.id, taken.epoch).await?;
                    taken.revision = there.record.revision;
                    if self.cancelled_meanwhile(there).await? {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error.with_run(taken.id)),
            }
        }
    }

    /// A state to which something was added while its caller has it.
    ///
    /// # Errors
    /// `RunBusy` where somebody else has it by now, or has been done with it.
    async fn still_held(&self, run: RunId, epoch: Epoch) -> Result<Opened> {
        let there = self.vault.get(run).await?;
        // Without a lease it was let go, by a write that seemed to fail.
        let is_held = |there: &Record| there.epoch == epoch && there.lease.is_some();
        let Some(there) = there.filter(is_held) else {
            return Err(Error::new(
                ErrorKind::RunBusy,
                "the claim's lease lapsed and the state was given to somebody else; nothing was \
                 written",
            )
            .with_run(run));
        };
        Opened::unseal(&self.codec, there)
    }

    /// Ends a state that its caller gives up if it was cancelled meanwhile; gives whether it has
    /// ended. Where something was added once more, it is to be looked at again.
    async fn cancelled_meanwhile(&self, there: Opened) -> Result<bool> {
        if !is_cancelled(&there) {
            return Ok(false);
        }
        let run = there.record.id;
        match self.cancel_state(there).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error.with_run(run)),
        }
    }
}

impl Held {
    /// Commits a state that its caller is done with.
    async fn write_back(mut self, receipt: Receipt) -> Result<()> {
        let (hub, opened) = (self.hub.inner(), &mut self.opened);
        let run = opened.record.id;
        if opened.snapshot.status == RunStatus::Completed {
            opened.snapshot.waits.clear();
        }
        opened.snapshot.keep(receipt.clone());
        opened.snapshot.advance();
        let now = hub.clock.now();
        let sealed = hub.codec.seal_state(
            &opened.snapshot,
            opened.snapshot.sequence,
            binding(&opened.record, Part::Snapshot),
        )?;
        let plain = Plain::parked(&opened.snapshot, Queue::states(), now, hub);
        let mut change = Change {
            attempts: Some(0),
            inbox_drop: opened.record.inbox.len(),
            ..plain.beside(worked_in(&opened.snapshot, sealed, now))
        };
        loop {
            match hub.vault.update(run, opened.record.revision, change.clone()).await {
                Ok(_) => {
                    let opens = opened.snapshot.waits.iter();
                    opens.for_each(|wait| hub.tell(HubEvent::wait_opened(run, wait)));
                    hub.tell_of_end(&opened.snapshot, vec![receipt]);
                    self.hold = None;
                    return Ok(());
                }
                Err(error) if error.is_conflict() => {
                    let there = hub.still_held(run, opened.record.epoch).await?;
                    change.inbox_drop = there.record.inbox.len();
                    opened.record.revision = there.record.revision;
                    // A cancellation that came in is too late where the caller is done.
                    if opened.snapshot.status == RunStatus::Waiting
                        && hub.cancelled_meanwhile(there).await?
                    {
                        return Err(cancelled(run));
                    }
                }
                Err(error) => return Err(error.with_run(run)),
            }
        }
    }
}
