//! A clock that only moves when a test moves it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::clock::{Clock, Timestamp};

/// A clock that stands still until it is set or advanced, and then wakes whoever waited for that.
///
/// Clones show the same time.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use dynamic_flow::{Clock, Timestamp, hours, testkit::ManualClock};
///
/// let clock = ManualClock::new(Timestamp::from_millis(0));
/// let later = clock.clone();
/// let sleeper = tokio::spawn(async move { later.sleep_until(Timestamp::from_millis(1)).await });
/// clock.until_sleeping(1).await;
/// clock.advance(hours(1));
/// sleeper.await.unwrap();
/// assert_eq!(clock.now(), Timestamp::from_millis(3_600_000));
/// # });
/// ```
#[derive(Clone)]
pub struct ManualClock {
    now: Arc<watch::Sender<Timestamp>>,
    sleepers: Arc<Sleepers>,
}

struct Sleepers {
    wake_times: Mutex<Vec<Timestamp>>,
    count: watch::Sender<usize>,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        let sleepers =
            Sleepers { wake_times: Mutex::new(Vec::new()), count: watch::Sender::new(0) };
        Self { now: Arc::new(watch::Sender::new(now)), sleepers: Arc::new(sleepers) }
    }

    /// Sets the time; an earlier one too, as when an operating system's clock is corrected.
    pub fn set(&self, now: Timestamp) {
        self.now.send_replace(now);
    }

    /// Moves the time on.
    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| *now = now.after(by));
    }

    /// How many wait for a later time.
    pub fn sleepers(&self) -> usize {
        self.sleepers.lock().len()
    }

    /// The earliest time that somebody waits for.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.sleepers.lock().iter().min().copied()
    }

    /// Ends when at least so many wait for a later time.
    pub async fn until_sleeping(&self, count: usize) {
        let mut changes = self.sleepers.count.subscribe();
        // The sender lives in this clock, so the channel can't be closed.
        let _ = changes.wait_for(|sleeping| *sleeping >= count).await;
    }
}

impl Sleepers {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Timestamp>> {
        self.wake_times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Timestamp>)) {
        let mut wake_times = self.lock();
        change(&mut wake_times);
        self.count.send_replace(wake_times.len());
    }
}

/// Counts a sleeper for as long as its future lives.
struct Asleep<'a>(&'a Sleepers, Timestamp);

impl<'a> Asleep<'a> {
    fn new(sleepers: &'a Sleepers, until: Timestamp) -> Self {
        sleepers.change(|wake_times| wake_times.push(until));
        Self(sleepers, until)
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.change(|wake_times| {
            if let Some(place) = wake_times.iter().position(|at| *at == self.1) {
                wake_times.swap_remove(place);
            }
        });
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    fn sleep_until(&self, at: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let mut changes = self.now.subscribe();
            if *changes.borrow_and_update() >= at {
                return;
            }
            let _asleep = Asleep::new(&self.sleepers, at);
            let _ = changes.wait_for(|now| *now >= at).await;
        })
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock")
            .field("now", &self.now())
            .field("sleepers", &self.sleepers())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[tokio::test]
    async fn a_time_that_has_come_is_not_waited_for() {
        let clock = ManualClock::new(at(10));
        assert!(clock.sleep_until(at(10)).now_or_never().is_some());
        assert!(clock.sleep_until(at(11)).now_or_never().is_none());
        assert_eq!(clock.sleepers(), 0, "a dropped sleeper is not counted");
    }

    #[tokio::test]
    async fn each_sleeper_wakes_at_its_own_time() {
        let clock = ManualClock::new(at(0));
        let mut early = Box::pin(clock.sleep_until(at(5)));
        let mut late = Box::pin(clock.sleep_until(at(9)));
        assert!((&mut early).now_or_never().is_none());
        assert!((&mut late).now_or_never().is_none());
        clock.until_sleeping(2).await;
        assert_eq!(clock.next_wake(), Some(at(5)));
        clock.advance(Duration::from_millis(4));
        assert!((&mut early).now_or_never().is_none());
        clock.set(at(5));
        assert!((&mut early).now_or_never().is_some());
        assert!((&mut late).now_or_never().is_none());
        assert_eq!((clock.sleepers(), clock.next_wake()), (1, Some(at(9))));
        clock.set(at(1));
        assert!((&mut late).now_or_never().is_none());
        clock.set(at(100));
        assert!((&mut late).now_or_never().is_some());
        assert_eq!(clock.next_wake(), None);
    }
}
