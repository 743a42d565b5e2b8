//! Whether a store takes writes.

use serde_json::Value;

use super::{PersistenceHub, plain::Plain};
use crate::{
    Result,
    engine::{FlowStamp, RunStatus, Snapshot},
    id::{Revision, RunId},
    store::{Expect, Queue},
};

/// The flow id of what is written to see whether it can be.
const PROBE_FLOW: &str = "@probe";

impl PersistenceHub {
    /// Writes a run of no flow, which is cancelled already, and removes it: a store may be reached and
    /// read, and take no writes all the same. One try, without those that other calls have.
    ///
    /// Where it can't be removed again, a worker does so after the retention.
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
    /// hub.plaintext().build().await?.try_write().await?;
    /// # Ok::<(), dynamic_flow::Error>(()) }).unwrap();
    /// ```
    pub async fn try_write(&self) -> Result<()> {
        let hub = self.inner();
        let now = hub.clock.now();
        let run = RunId::new(now)?;
        let stamp = FlowStamp::unstamped(PROBE_FLOW.into());
        let mut snapshot = Snapshot::start(run, stamp, &Vec::new(), Value::Null);
        snapshot.status = RunStatus::Cancelled;
        let plain = Plain::parked(&snapshot, Queue::states(), now, hub);
        let record = hub.seal_first(&mut snapshot, plain, now)?;
        let store = hub.vault.store();
        let written = store.insert(record).await;
        let removed = store.delete(run, Expect::Revision(Revision::FIRST)).await;
        // Of a write whose outcome is unknown, the error says more than what became of removing it.
        written.and(removed)
    }
}
