//! The calls of a run that are being made.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::task::{AbortHandle, JoinError, JoinSet};

use super::{machine::Returned, perform::catch_panic};
use crate::{ToolError, codes, schema::Schema};

/// How long a call may take right there before others get the thread.
const SHORT: Duration = Duration::from_micros(100);

/// What has to be known of a call once it returns.
pub(super) struct Made {
    pub(super) effect: bool,
    /// What it gives fits this.
    pub(super) output: Schema,
}

/// The calls that are being made.
#[derive(Default)]
pub(super) struct Live {
    /// Each with what stops it, where it has a task.
    calls: HashMap<u64, (Made, Option<AbortHandle>)>,
    /// What calls that had nothing to wait for came to.
    done: VecDeque<(u64, Returned)>,
    tasks: JoinSet<(u64, Returned)>,
}

impl Live {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Makes a call: right here until it has to wait for something, and on a task of its own from
    /// there. A task for each would send the run from one thread to the other.
    pub(super) async fn start(
        &mut self,
        id: u64,
        made: Made,
        call: impl Future<Output = Returned> + Send + 'static,
    ) {
        let mut call = Box::pin(catch_panic(call));
        let began = Instant::now();
        let handle = match futures::poll!(&mut call) {
            Poll::Ready(result) => {
                self.done.push_back((id, result));
                None
            }
            Poll::Pending => Some(self.tasks.spawn(async move { (id, call.await) })),
        };
        let is_done = handle.is_none();
        self.calls.insert(id, (made, handle));
        // A run of calls that wait for nothing lets others have the thread at times.
        match is_done && began.elapsed() > SHORT {
            true => tokio::task::yield_now().await,
            false => tokio::task::consume_budget().await,
        }
    }

    /// Gives up on a call: what comes of it is nobody's business any more.
    pub(super) fn abort(&mut self, id: u64) {
        if let Some((_, Some(handle))) = self.calls.remove(&id) {
            handle.abort();
        }
    }

    /// What the next call that returns came to; none where none is being made. Whoever drops the
    /// future loses nothing.
    pub(super) async fn next(&mut self) -> Option<(u64, Made, Returned)> {
        loop {
            let (id, result) = match self.done.pop_front() {
                Some(done) => done,
                None => match self.tasks.join_next().await? {
                    Ok(done) => done,
                    Err(lost) => match self.find(&lost) {
                        Some(id) => (id, Err(lost_call())),
                        None => continue,
                    },
                },
            };
            if let Some((made, _)) = self.calls.remove(&id) {
                return Some((id, made, result));
            }
        }
    }

    /// The call whose task ended without a result, unless it was given up.
    fn find(&self, lost: &JoinError) -> Option<u64> {
        let mut calls = self.calls.iter();
        let is_it = |handle: &AbortHandle| handle.id() == lost.id();
        calls.find(|(_, (_, handle))| handle.as_ref().is_some_and(is_it)).map(|(id, _)| *id)
    }
}

/// The runtime has dropped its task, and must not leave the run waiting for ever.
fn lost_call() -> ToolError {
    ToolError::new("the call ended without a result").code(codes::PANIC)
}
