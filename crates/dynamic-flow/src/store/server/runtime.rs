//! A thread of a store's own.
//!
//! A driver serves its connections with tasks of the runtime in which they were made. Were that
//! the caller's, a tool that blocks its thread would keep leases from being renewed, and its run
//! might be driven twice; and a store could not outlive the runtime that used it first.

#[cfg(any(feature = "postgres", feature = "redis"))]
use std::future::Future;
use std::{
    io,
    sync::{Mutex, PoisonError},
};

use tokio::runtime::{Builder, Handle, Runtime};
#[cfg(any(feature = "postgres", feature = "redis"))]
use tokio::task::JoinHandle;

/// A runtime with one thread, started when it is first needed.
pub(crate) struct OwnRuntime {
    /// What its thread is called.
    name: &'static str,
    runtime: Mutex<Option<Runtime>>,
}

/// A call that did not come to its end on the store's own thread.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(crate) enum Interrupted {
    #[error("the system gives no thread: {0}")]
    NoThread(io::ErrorKind),
    #[error("the call was broken off")]
    BrokenOff,
}

impl OwnRuntime {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, runtime: Mutex::new(None) }
    }

    pub(crate) fn handle(&self) -> Result<Handle, Interrupted> {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.handle().clone());
        }
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name(self.name).enable_all();
        let built = builder.build().map_err(|error| Interrupted::NoThread(error.kind()))?;
        Ok(runtime.insert(built).handle().clone())
    }

    /// Does something there, and gives it up when its caller goes away.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(crate) async fn run<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Interrupted> + Send + 'static,
    {
        let mut call = Abandoned(self.handle()?.spawn(call));
        (&mut call.0).await.unwrap_or_else(|_| Err(Interrupted::BrokenOff.into()))
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        let runtime = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            // Waits for nothing: the last owner may be a task of any runtime, this one included.
            runtime.shutdown_background();
        }
    }
}

/// A task that ends with the one who waits for it.
#[cfg(any(feature = "postgres", feature = "redis"))]
struct Abandoned<T>(JoinHandle<T>);

#[cfg(any(feature = "postgres", feature = "redis"))]
impl<T> Drop for Abandoned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(all(test, any(feature = "postgres", feature = "redis")))]
mod tests {
    use futures::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_is_done_there_is_on_a_thread_of_that_name() {
        let runtime = OwnRuntime::new("own");
        let name = async { Ok::<_, Interrupted>(std::thread::current().name().map(str::to_owned)) };
        assert_eq!(runtime.run(name).await.unwrap().as_deref(), Some("own"));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_given_up() {
        let runtime = OwnRuntime::new("own");
        let (held, gone) = oneshot::channel::<()>();
        let call = runtime.run(async move {
            std::future::pending::<()>().await;
            drop(held);
            Ok::<_, Interrupted>(())
        });
        assert!(call.now_or_never().is_none());
        assert!(gone.await.is_err());
    }

    #[tokio::test]
    async fn what_panics_there_is_an_error_here() {
        let runtime = OwnRuntime::new("own");
        let call = runtime.run(async { if true { panic!("on purpose") } else { Ok(()) } });
        assert!(matches!(call.await, Err(Interrupted::BrokenOff)));
        assert!(runtime.run(async { Ok::<_, Interrupted>(()) }).await.is_ok());
    }
}
