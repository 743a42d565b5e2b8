//! Hints that somebody wrote something which others may be waiting for.

use std::future::pending;

use tokio::sync::watch;

use crate::{
    clock::Timestamp,
    store::{Change, Record},
};

/// What somebody may be waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hint {
    /// A run became due, and nobody drives it: workers wait for that.
    Due,
    /// A run is not driven any more: callers who want its outcome wait for that.
    Idle,
}

impl Hint {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Due, Self::Idle];
}

/// Tells, soon after it happened, that somebody wrote what the subscriber waits for.
///
/// A hint says no more than "look again". Many writes may give one hint, one may give none (the
/// connection was cut), and some are for nothing: who waits for hints looks from time to time too.
#[derive(Debug)]
pub struct Hints(watch::Receiver<()>);

impl Hints {
    /// Waits for a hint since the last one, or since the subscription.
    ///
    /// None is lost if the future is dropped.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The store is gone, and nothing will come any more.
            pending::<()>().await;
        }
    }
}

/// Where a store gives its hints.
#[derive(Debug, Clone, Default)]
pub struct Hinter {
    due: watch::Sender<()>,
    idle: watch::Sender<()>,
}

impl Hinter {
    /// One that nobody hears yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a hint to all who wait for it.
    pub fn give(&self, hint: Hint) {
        self.channel(hint).send_replace(());
    }

    /// A subscription to what is given from now on.
    pub fn subscribe(&self, to: Hint) -> Hints {
        Hints(self.channel(to).subscribe())
    }

    fn channel(&self, hint: Hint) -> &watch::Sender<()> {
        match hint {
            Hint::Due => &self.due,
            Hint::Idle => &self.idle,
        }
    }
}

impl Record {
    /// What is to be told of when a record like this was inserted.
    pub fn hints(&self) -> impl Iterator<Item = Hint> + use<> {
        let due = self.lease.is_none() && is_due(self.due_at, self.updated_at);
        due.then_some(Hint::Due).into_iter()
    }
}

impl Change {
    /// What is to be told of when this change was made.
    pub fn hints(&self) -> impl Iterator<Item = Hint> + use<> {
        let idle = self.lease == Some(None);
        let taken = matches!(self.lease, Some(Some(_)));
        let due = !taken && is_due(self.due_at.flatten(), self.updated_at);
        due.then_some(Hint::Due).into_iter().chain(idle.then_some(Hint::Idle))
    }
}

fn is_due(due_at: Option<Timestamp>, now: Timestamp) -> bool {
    due_at.is_some_and(|at| at <= now)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;
    use crate::store::Lease;

    #[test]
    fn hints_are_heard_once_and_only_from_the_subscription_on() {
        let hinter = Hinter::new();
        hinter.give(Hint::Due);
        let mut hints = hinter.subscribe(Hint::Due);
        hinter.give(Hint::Idle);
        assert!(hints.next().now_or_never().is_none());
        hinter.give(Hint::Due);
        hinter.give(Hint::Due);
        assert!(hints.next().now_or_never().is_some());
        assert!(hints.next().now_or_never().is_none());
        drop(hinter);
        assert!(hints.next().now_or_never().is_none());
    }

    #[test]
    fn what_is_told_of_is_what_others_wait_for() {
        let now = Timestamp::from_millis(1000);
        let later = now.after(Duration::from_millis(1));
        let lease = Some(Lease { owner: "hub".into(), until: later });
        let hints = |lease, due_at| {
            let change = Change { lease, due_at, ..Change::at(now) };
            change.hints().collect::<Vec<_>>()
        };
        assert_eq!(hints(None, Some(Some(now))), [Hint::Due]);
        assert_eq!(hints(None, Some(Some(later))), []);
        assert_eq!(hints(None, None), []);
        assert_eq!(hints(Some(None), Some(Some(later))), [Hint::Idle]);
        assert_eq!(hints(Some(None), Some(Some(now))), Hint::ALL);
        assert_eq!(hints(Some(lease.clone()), Some(Some(now))), []);
    }
}
