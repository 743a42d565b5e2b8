//! Calls whose callers went away.
//!
//! A call that has begun goes on by itself when its caller is dropped: an answer that nobody waits
//! for would cost the connection on which it comes. Calls that are made later wait for it, so that
//! it does nothing behind their backs.

use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

use super::trouble::Trouble;
use crate::store::server::Interrupted;

/// How many calls go on without a caller.
#[derive(Debug, Default)]
pub(super) struct Stragglers(watch::Sender<usize>);

impl Stragglers {
    /// Waits until there are none.
    pub(super) async fn gone(&self) {
        // Its sender is here, so that it does not end otherwise.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Waits for a call of that runtime; it is one of them when the waiting is given up.
    pub(super) async fn watched<T: Send + 'static>(
        &self,
        call: JoinHandle<Result<T, Trouble>>,
        runtime: &Handle,
    ) -> Result<T, Trouble> {
        let broken_off = || Err(Interrupted::BrokenOff.into());
        let mut call = Watched { call: Some(call), stragglers: &self.0, runtime };
        let Some(running) = &mut call.call else { return broken_off() };
        let result = running.await;
        call.call = None;
        result.unwrap_or_else(|_| broken_off())
    }
}

struct Watched<'a, T: Send + 'static> {
    call: Option<JoinHandle<T>>,
    stragglers: &'a watch::Sender<usize>,
    runtime: &'a Handle,
}

impl<T: Send + 'static> Drop for Watched<'_, T> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            self.stragglers.send_modify(|count| *count += 1);
            let stragglers = self.stragglers.clone();
            self.runtime.spawn(async move {
                let _ = call.await;
                stragglers.send_modify(|count| *count -= 1);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn later_calls_wait_for_those_whose_callers_went_away() {
        let (stragglers, here) = (Stragglers::default(), Handle::current());
        stragglers.gone().await;
        let quick = tokio::spawn(async { Ok(7) });
        assert_eq!(stragglers.watched(quick, &here).await.ok(), Some(7));
        stragglers.gone().await;

        let (end, ended) = tokio::sync::oneshot::channel();
        let slow = tokio::spawn(async move {
            let _ = ended.await;
            Ok(())
        });
        let waiting = stragglers.watched(slow, &here);
        assert!(tokio::time::timeout(Duration::from_millis(1), waiting).await.is_err());
        assert!(stragglers.gone().now_or_never().is_none());
        end.send(()).unwrap();
        stragglers.gone().await;
    }
}
