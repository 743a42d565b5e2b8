//! The driver's own thread.
//!
//! The driver serves its connections with tasks of the runtime in which it was made. Were that the
//! caller's, a tool that blocks its thread would keep leases from being renewed, and a store could
//! not outlive the runtime that used it first. A call on a runtime of its own is also never cut in
//! the middle when its caller goes away, which would cost the connection.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime with one thread, started when it is first needed.
#[derive(Default)]
pub(super) struct OwnRuntime(Mutex<Option<Runtime>>);

impl OwnRuntime {
    pub(super) fn handle(&self) -> io::Result<Handle> {
        let mut runtime = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.handle().clone());
        }
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("dynamic-flow-mongodb").enable_all();
        Ok(runtime.insert(builder.build()?).handle().clone())
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        let runtime = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            // Waits for nothing: the last owner may be a task of any runtime, this one included.
            runtime.shutdown_background();
        }
    }
}
