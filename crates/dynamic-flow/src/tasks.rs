//! On whose task, and on whose thread, work is done.

use std::{
    any::Any,
    cell::Cell,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::JoinError,
};
use tracing::Instrument as _;

thread_local! {
    /// Whether what this thread works on may keep it, with [`tokio::task::block_in_place`].
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// Does something on a task of its own, so that it goes on when nobody waits for it any more, within the
/// span of whoever asks for it.
pub(crate) fn carry_out<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = Result<T, JoinError>> + Send {
    let work = ours(work);
    async { tokio::spawn(work).await }
}

/// What belongs to us, to be spawned. What it needs is on the heap from the start, and makes no future
/// large that is around it.
///
/// It may block in place: where it is spawned on a runtime of several threads, it is polled by these
/// alone. Of any other future nobody can tell, and in a `LocalSet` to do so is a panic.
pub(crate) fn ours<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> + Send + 'static {
    Ours(Box::pin(work)).in_current_span()
}

struct Ours<F>(Pin<Box<F>>);

impl<F: Future> Future for Ours<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _may_block = While::may_block(has_threads());
        self.0.as_mut().poll(context)
    }
}

/// Whether there are other threads to go on with what this one leaves.
fn has_threads() -> bool {
    let runtime = Handle::try_current();
    runtime.is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// Goes as far with the call of a tool as it can without waiting. It may use runtimes of its own, and so
/// does not block in place.
pub(crate) async fn begin_tool<F: Future>(mut call: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| {
        let _may_not_block = While::may_block(false);
        Poll::Ready(call.as_mut().poll(context))
    })
    .await
}

/// Does something that blocks, from its begin to its end, whoever waits for it: right here where the
/// thread may be kept, and else on one for that. To have another thread do it, and to be woken by it,
/// takes a good part of the time that a write to a quick disk takes.
///
/// # Errors
/// Says why it has not come to its end.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    match in_place() {
        Some(in_place) => in_place.run(work),
        None => tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string()),
    }
}

/// The right to block this thread.
pub(crate) struct InPlace(());

/// Whether this thread may be kept.
pub(crate) fn in_place() -> Option<InPlace> {
    (MAY_BLOCK.get() && has_threads()).then_some(InPlace(()))
}

impl InPlace {
    /// Does something that blocks, while another thread takes over from this one.
    ///
    /// # Errors
    /// What it panicked with.
    pub(crate) fn run<T>(self, work: impl FnOnce() -> T) -> Result<T, String> {
        let work = || catch_unwind(AssertUnwindSafe(work));
        tokio::task::block_in_place(work).map_err(|panic| text_of(&*panic))
    }
}

/// What is said of a panic.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.map_or_else(|| "it panicked".to_owned(), |text| format!("it panicked: {text}"))
}

/// Says for as long as it lives whether this thread may be kept.
struct While {
    before: bool,
}

impl While {
    fn may_block(now: bool) -> Self {
        Self { before: MAY_BLOCK.replace(now) }
    }
}

impl Drop for While {
    fn drop(&mut self) {
        MAY_BLOCK.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use std::thread::{ThreadId, current};

    use tokio::{runtime::Builder, task::LocalSet};

    use super::*;

    async fn where_it_blocks() -> (ThreadId, ThreadId) {
        (current().id(), blocking(|| current().id()).await.unwrap())
    }

    #[test]
    fn only_our_own_tasks_on_a_runtime_of_several_threads_block_in_place() {
        let threads = Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let one = Builder::new_current_thread().build().unwrap();
        let (here, there) = threads.block_on(async { carry_out(where_it_blocks()).await.unwrap() });
        assert_eq!(here, there);
        let others =
            [
                threads.block_on(async { tokio::spawn(where_it_blocks()).await.unwrap() }),
                threads.block_on(where_it_blocks()),
                threads.block_on(LocalSet::new().run_until(where_it_blocks())),
                threads.block_on(LocalSet::new().run_until(async {
                    tokio::task::spawn_local(where_it_blocks()).await.unwrap()
                })),
                one.block_on(async { carry_out(where_it_blocks()).await.unwrap() }),
            ];
        for (case, (here, there)) in others.into_iter().enumerate() {
            assert_ne!(here, there, "{case}");
        }
    }

    #[test]
    fn what_others_wrote_may_have_a_runtime_of_its_own_within_one_of_our_tasks() {
        let threads = Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let foreign = async {
            tokio::task::block_in_place(|| {
                Handle::current().block_on(LocalSet::new().run_until(where_it_blocks()))
            })
        };
        let work = async {
            let mut foreign = Box::pin(foreign);
            let Poll::Ready(places) = begin_tool(foreign.as_mut()).await else {
                panic!("it waits")
            };
            (places, where_it_blocks().await)
        };
        let (foreign, own) = threads.block_on(async { carry_out(work).await.unwrap() });
        assert_ne!(foreign.0, foreign.1);
        assert_eq!(own.0, own.1);
    }

    #[test]
    fn a_panic_is_told_wherever_it_happens() {
        let threads = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let panics = || async { blocking(|| panic!("no disk")).await };
        let [here, there] = threads.block_on(async {
            let panics: [Result<(), String>; 2] =
                [carry_out(panics()).await.unwrap(), panics().await];
            panics.map(Result::unwrap_err)
        });
        assert_eq!(here, "it panicked: no disk");
        assert!(there.contains("no disk"), "{there}");
    }
}
