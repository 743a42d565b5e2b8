//! Waiting for the end of a run, whoever drives it.

use std::time::Duration;

use super::{PersistenceHub, RunView, query::view_of, vault::Opened};
use crate::{Error, ErrorKind, Result, id::RunId, store::Hint};

/// How soon a run is looked at again that has not ended; each further pause is twice as long, up to
/// the time after which workers look for due runs.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

impl PersistenceHub {
    /// Waits until a run has ended, whoever drives it, and opens it for its owner as
    /// [`PersistenceHub::get`] does: [`RunView::status`] says how it ended, [`RunView::output`] and
    /// [`RunView::ended`] have the rest. One that has failed or expired has ended, too, though
    /// [`PersistenceHub::retry`] may make it go on.
    ///
    /// Drives nothing and writes nothing, so it may be dropped at any time; give it a timeout where a
    /// run may wait for an answer for long. It looks at once where the store tells that a run was let
    /// go, or this hub has driven it, and else from time to time, in the end every
    /// [`poll_interval`](super::HubOptions::poll_interval).
    ///
    /// # Errors
    /// `RunNotFound`, also for a run that is removed meanwhile; `ShuttingDown` once this hub shuts down;
    /// `EncryptionError` and `CorruptState` where it can't be opened; what the store fails with.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use dynamic_flow::{Flow, RunStatus, store::MemoryStore, tool::AwaitInput};
    /// # use dynamic_flow::hub::PersistenceHub;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> dynamic_flow::Result<()> {
    /// # let store = Arc::new(MemoryStore::new());
    /// # let hub = PersistenceHub::builder(store).plaintext().build().await?;
    /// # let flow = Flow::input::<u32>("purchase")
    /// #     .await_input(AwaitInput::<bool>::new("approve").prompt("Buy?")).build()?;
    /// let parked = hub.register(&flow)?.run(2048).await?.suspended()?;
    /// let ended = tokio::spawn({
    ///     let hub = hub.clone();
    ///     async move { hub.ended(parked.run_id).await }
    /// });
    /// // Here or in any other process:
    /// hub.resume(parked.only()?.key()?, serde_json::json!(true)).await?;
    /// let view = ended.await.expect("no panic")?;
    /// assert_eq!(view.status, RunStatus::Completed);
    /// assert_eq!(view.output, Some(serde_json::json!(true)));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ended(&self, run: RunId) -> Result<RunView> {
        let hub = self.inner();
        let mut hints = hub.vault.hints(Hint::Idle);
        let mut pause = FIRST_PAUSE;
        loop {
            let idle = hub.idle.notified();
            let record = hub.vault.require(run).await?;
            // The plain columns are enough until then.
            if record.status.is_final() {
                let opened = Opened::unseal(&hub.codec, record)?;
                opened.verify()?;
                return Ok(view_of(opened));
            }
            if hub.is_stopping() {
                let message = "the hub is shutting down; the run has not ended yet";
                return Err(Error::new(ErrorKind::ShuttingDown, message).with_run(run));
            }
            pause = pause.min(hub.options.poll_interval);
            tokio::select! {
                () = idle => {}
                () = hints.next() => {}
                () = hub.stopped() => {}
                () = hub.clock.sleep_until(hub.clock.now().after(pause)) => {}
            }
            pause *= 2;
        }
    }
}
