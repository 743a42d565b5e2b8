//! Keeps the leases of the runs that a hub drives, on a thread of its own, so that a tool that
//! blocks its thread can't starve the renewal.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use tokio::sync::Notify;

use super::Inner;
use crate::{
    Error, ErrorKind, Result,
    clock::{Clock, Timestamp},
    id::{Epoch, RunId},
    store::Store,
};

/// A run that this hub drives.
#[derive(Debug, Default)]
pub(crate) struct Active {
    lost: AtomicBool,
    stop: AtomicBool,
    signal: Notify,
}

impl Active {
    /// Tells the driver that something concerns the run.
    pub(crate) fn signal(&self) {
        self.signal.notify_one();
    }

    /// Ends when the driver was told something.
    pub(crate) async fn signaled(&self) {
        self.signal.notified().await;
    }

    /// Asks the driver to commit and let go.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.signal();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Whether somebody else holds the run by now.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }
}

/// The runs whose leases are kept, each with the epoch under which it is held.
type Held = Mutex<HashMap<RunId, (Epoch, Arc<Active>)>>;

/// The leases of a hub.
#[derive(Debug)]
pub(crate) struct Keeper {
    held: Arc<Held>,
    store: Arc<dyn Store>,
    lease: Duration,
    started: Arc<AtomicBool>,
}

impl Keeper {
    pub(crate) fn new(store: Arc<dyn Store>, lease: Duration) -> Self {
        Self { held: Arc::default(), store, lease, started: Arc::default() }
    }

    /// Keeps the lease of a run until the hold is dropped.
    pub(crate) fn hold(
        &self,
        run: RunId,
        epoch: Epoch,
        active: &Arc<Active>,
        clock: &Arc<dyn Clock>,
    ) -> Hold {
        lock(&self.held).insert(run, (epoch, active.clone()));
        if !self.started.swap(true, Ordering::AcqRel) {
            self.start(clock);
        }
        Hold { held: Arc::downgrade(&self.held), run, epoch }
    }

    /// Starts the thread; it ends with the hub.
    fn start(&self, clock: &Arc<dyn Clock>) {
        let held = Arc::downgrade(&self.held);
        let (store, clock, lease) = (self.store.clone(), clock.clone(), self.lease);
        let running = Running(self.started.clone());
        let thread = std::thread::Builder::new().name("dynamic-flow-leases".into());
        let started = thread.spawn(move || {
            let _running = running;
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(renew_all(held, &*store, &*clock, lease)),
                Err(error) => tracing::error!(%error, "{NO_THREAD}"),
            }
        });
        if let Err(error) = started {
            tracing::error!(%error, "{NO_THREAD}");
        }
    }
}

const NO_THREAD: &str = "no thread renews leases: long steps may run twice";

/// Says that the thread runs, for as long as it does: where it could not be started, or a store has
/// panicked in it, the next hold starts another.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Inner {
    /// Makes sure that a lease which this hub has just taken lasts: the tries of the write that took it
    /// may have used it up.
    ///
    /// # Errors
    /// `RunBusy` where somebody else has the run by now; what the store fails with.
    pub(super) async fn secure(&self, run: RunId, epoch: Epoch, until: Timestamp) -> Result<()> {
        let lease = self.options.lease;
        if until >= self.clock.now().after(lease / 2) {
            return Ok(());
        }
        let store = self.vault.store();
        let renew = || store.renew(run, epoch, self.clock.now().after(lease));
        match self.vault.retrying(renew).await {
            Err(error) if error.is_conflict() => Err(Error::new(
                ErrorKind::RunBusy,
                "the store took about as long as the lease, and the lease is lost",
            )
            .with_run(run)),
            // It is tried again, as for any lease that is held.
            Err(error) if self.clock.now() < until => {
                tracing::warn!(%run, %error, "a lease could not be renewed");
                Ok(())
            }
            other => other,
        }
    }
}

/// Renews each lease three times in its length, until nobody has the hub any more.
async fn renew_all(held: Weak<Held>, store: &dyn Store, clock: &dyn Clock, lease: Duration) {
    loop {
        clock.sleep_until(clock.now().after(lease / 3)).await;
        let Some(map) = held.upgrade() else { return };
        let all: Vec<_> = lock(&map).iter().map(|(run, held)| (*run, held.clone())).collect();
        drop(map);
        // One that hangs must not make the others lapse.
        let renewals = all.into_iter().map(|(run, (epoch, active))| async move {
            let renewed = store.renew(run, epoch, clock.now().after(lease));
            let renewed = tokio::time::timeout(lease / 3, renewed).await;
            (run, epoch, active, renewed)
        });
        for (run, epoch, active, renewed) in join_all(renewals).await {
            let Ok(renewed) = renewed else {
                tracing::warn!(%run, "a lease could not be renewed in time");
                continue;
            };
            match renewed {
                Ok(()) => {}
                // Nothing may be held yet before the first commit; the driver finds out at its next.
                Err(error) if error.is_conflict() => {
                    let still = held.upgrade().is_some_and(|map| {
                        lock(&map).get(&run).is_some_and(|(known, _)| *known == epoch)
                    });
                    if still {
                        active.lost.store(true, Ordering::Release);
                        active.signal();
                    }
                }
                Err(error) => tracing::warn!(%run, %error, "a lease could not be renewed"),
            }
        }
    }
}

/// A lease that is being kept.
#[derive(Debug)]
pub(crate) struct Hold {
    held: Weak<Held>,
    run: RunId,
    epoch: Epoch,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(held) = self.held.upgrade() {
            let mut held = lock(&held);
            if held.get(&self.run).is_some_and(|(epoch, _)| *epoch == self.epoch) {
                held.remove(&self.run);
            }
        }
    }
}

/// Locks what no panic can leave half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
