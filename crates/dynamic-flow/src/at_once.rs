//! Work that is begun on the task of whoever asks for it, before it gets one of its own.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// How deep work may lie in other work: a call in the run that makes it, and that run in a call.
/// Without a limit, flows that run flows would use up the stack.
const MOST: u32 = 4;

/// Goes as far with some work as it can without waiting. Most that is pending then gets a task, and
/// most that is ready needs none: a task for each would send a run from one thread to the other.
pub(crate) async fn at_once<F: Future>(mut work: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| {
        Poll::Ready(match Inside::enter() {
            Some(_inside) => work.as_mut().poll(context),
            None => Poll::Pending,
        })
    })
    .await
}

/// Counts for as long as it lives, also where a panic ends that.
struct Inside;

impl Inside {
    fn enter() -> Option<Self> {
        let depth = DEPTH.get();
        (depth < MOST).then(|| DEPTH.set(depth + 1)).map(|()| Self)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}
