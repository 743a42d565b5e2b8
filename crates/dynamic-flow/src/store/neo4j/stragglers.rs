//! Calls whose callers went away.
//!
//! A call that has begun goes on by itself when its caller is dropped: an answer that nobody waits
//! for would cost the connection on which it comes. Calls that are made later wait for it, so that
//! it does nothing behind their backs.

use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

use super::trouble::Trouble;

/// How many calls go on without a caller.
#[derive(Debug, Default)]
pub(super) struct Stragglers(watch::Sender<usize>);

impl Stragglers {
    /// Waits until there are none.
    pub(super) async fn gone(&self) {
        // Its sender is here, so that it does not end otherwise.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Waits for a call; it is one of them when the waiting is given up.
    pub(super) async fn watched<T: Send + 'static>(
        &self,
        call: JoinHandle<Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let mut call = Watched { call: Some(call), stragglers: &self.0 };
        let Some(running) = &mut call.call else { return Err(Trouble::Interrupted) };
        let result = running.await;
        call.call = None;
        result.unwrap_or(Err(Trouble::Interrupted))
    }
}

struct Watched<'a, T: Send + 'static> {
    call: Option<JoinHandle<T>>,
    stragglers: &'a watch::Sender<usize>,
}

impl<T: Send + 'static> Drop for Watched<'_, T> {
    fn drop(&mut self) {
        // Where the runtime is gone, so is the call.
        if let (Some(call), Ok(runtime)) = (self.call.take(), Handle::try_current()) {
            self.stragglers.send_modify(|count| *count += 1);
            let stragglers = self.stragglers.clone();
            runtime.spawn(async move {
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
        let stragglers = Stragglers::default();
        stragglers.gone().await;
        let quick = tokio::spawn(async { Ok(7) });
        assert_eq!(stragglers.watched(quick).await.ok(), Some(7));
        stragglers.gone().await;

        let (end, ended) = tokio::sync::oneshot::channel();
        let slow = tokio::spawn(async move {
            let _ = ended.await;
            Ok(())
        });
        let waiting = stragglers.watched(slow);
        assert!(tokio::time::timeout(Duration::from_millis(1), waiting).await.is_err());
        assert!(stragglers.gone().now_or_never().is_none());
        end.send(()).unwrap();
        stragglers.gone().await;
    }
}
