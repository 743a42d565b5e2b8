//! What is asked for a run as a whole: one more key, its end, another try.

use std::{sync::Arc, time::Duration};

use super::{
    Inner,
    accept::refusal,
    drive,
    flows::Known,
    inbox::{Accept, InboxItem},
    lease::lock,
    pending::{is_cancelled, pending_receipt},
    submit::Submitted,
};
use crate::{
    Error, ErrorKind, Result,
    engine::RunStatus,
    id::{RunId, SuspensionKey, WaitId},
    store::Change,
    wait::Cancellation,
};

/// How many keys a wait may have: the first, and those that were reissued.
const MAX_KEYS_PER_WAIT: usize = 16;
/// How long what is kept of a request beside its input may be, in bytes.
const MAX_WORDS: usize = 1024;
/// How long a cancellation waits for the driver of its run, where that is in this hub.
const LETTING_GO: Duration = Duration::from_secs(5);

impl Inner {
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
                let message = "the wait has too many keys to get another: answer it with one of \
                               them, or cancel the run";
                return Err(Error::new(ErrorKind::LimitExceeded, message)
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
            // What was accepted before has an effect once whoever drives the run comes to it.
            if status == RunStatus::Cancelled || is_cancelled(&opened) {
                return Ok(status);
            }
            if status.is_final() {
                return Err(has_ended(run, status));
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
                Ok((status, Submitted::Left)) => {
                    return match self.until_let_go(run).await {
                        true => Ok(self.vault.require(run).await?.status),
                        false => Ok(status),
                    };
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for a little while until this hub drives a run no more that it was told to stop; gives
    /// whether it did.
    async fn until_let_go(&self, run: RunId) -> bool {
        let is_active = || lock(&self.active).contains_key(&run);
        if !is_active() {
            return false;
        }
        let letting_go = async {
            loop {
                let idle = self.idle.notified();
                if !is_active() {
                    return;
                }
                idle.await;
            }
        };
        tokio::select! {
            () = letting_go => true,
            () = self.clock.sleep_until(self.clock.now().after(LETTING_GO)) => false,
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
}

/// The refusal of what can't be done to a run that has ended.
pub(super) fn has_ended(run: RunId, status: RunStatus) -> Error {
    let message = format!("the run has ended already: it is {status}");
    Error::new(ErrorKind::InvalidState, message).with_run(run)
}

/// Refuses what is too long to be kept in receipts for ever.
pub(super) fn check_words(name: &'static str, words: Option<&str>) -> Result<()> {
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
