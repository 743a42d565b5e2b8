//! What many need at once and one tries to get: the others wait for it, and hear how it ended.

use std::{future::Future, sync::PoisonError, time::Instant};

use super::trouble::Trouble;

/// Attempts at one thing, one at a time.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    turn: tokio::sync::Mutex<()>,
    /// When the last one failed, and of what.
    failed: std::sync::Mutex<Option<(Instant, Trouble)>>,
}

impl Attempts {
    /// Gives what is there, or else what an attempt brings. Whoever waited while another one failed
    /// hears of that: with each for itself, a server that does not answer would cost the last of
    /// them the time of all before it.
    pub(super) async fn once<T>(
        &self,
        there: impl Fn() -> Option<T>,
        attempt: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        if let Some(it) = there() {
            return Ok(it);
        }
        let began = Instant::now();
        let _turn = self.turn.lock().await;
        if let Some(it) = there() {
            return Ok(it);
        }
        let failed = || self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, trouble)) = &*failed()
            && *at > began
        {
            return Err(trouble.clone());
        }
        let result = attempt.await;
        *failed() = result.as_ref().err().map(|trouble| (Instant::now(), trouble.clone()));
        result
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_hear_of_one_attempt_and_who_comes_later_makes_another() {
        let attempts = Attempts::default();
        let (made, got) = (Cell::new(0), Cell::new(None));
        let attempt = |result: Result<u8, Trouble>| {
            let (made, got) = (&made, &got);
            async move {
                made.set(made.get() + 1);
                tokio::task::yield_now().await;
                if let Ok(it) = result {
                    got.set(Some(it));
                }
                result
            }
        };
        let there = || got.get();
        let calls = (0..64).map(|_| attempts.once(there, attempt(Err(Trouble::Confused))));
        assert!(join_all(calls).await.iter().all(Result::is_err));
        assert_eq!(made.get(), 1, "one for all");
        let calls = (0..64).map(|_| attempts.once(there, attempt(Ok(7))));
        assert!(join_all(calls).await.iter().all(|it| matches!(it, Ok(7))));
        assert_eq!(made.get(), 2, "and one for all who came after it had failed");
    }

    #[tokio::test]
    async fn an_attempt_that_is_given_up_leaves_the_next_its_turn() {
        let attempts = Attempts::default();
        let never = attempts.once(|| None::<u8>, std::future::pending());
        assert!(futures::FutureExt::now_or_never(never).is_none());
        let next = attempts.once(|| None, async { Ok(7) });
        assert!(matches!(next.await, Ok(7)));
    }
}
