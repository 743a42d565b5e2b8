//! A clock that stands still until a test moves it.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::clock::{Clock, Timestamp};

/// A clock that only [`ManualClock::advance`] and [`ManualClock::set`] move; its clones are the same clock.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<watch::Sender<Timestamp>>);

impl ManualClock {
    /// A clock that stands at that time.
    pub fn new(at: Timestamp) -> Self {
        Self(Arc::new(watch::channel(at).0))
    }

    /// Moves it on, and wakes whoever waited for that.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|now| *now = now.after(by));
    }

    /// Sets it, also back.
    pub fn set(&self, at: Timestamp) {
        self.0.send_replace(at);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    fn sleep_until(&self, at: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            self.0.subscribe().wait_for(|now| *now >= at).await.ok();
        })
    }
}
