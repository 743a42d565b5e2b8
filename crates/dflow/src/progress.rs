//! Shows what is going on while a run is driven, and what Ctrl-C does to it.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dynamic_flow::{
    ErrorKind, Result, RunId,
    hub::{Events, HubEvent, PersistenceHub},
};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::{context::GRACE, render::clean_line, terminal::Terminal};

/// A spinner on standard error; nothing where nobody watches.
pub(crate) fn spinner(terminal: &Terminal, text: &str) -> ProgressBar {
    if !terminal.watched {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(text.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(80));
    bar
}

/// The signals that ask the program to end: Ctrl-C and termination. They are caught from the
/// moment this is made.
pub(crate) struct EndSignals {
    #[cfg(unix)]
    caught: Option<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)>,
}

impl EndSignals {
    #[cfg(unix)]
    pub(crate) fn catch() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt());
        Self { caught: interrupt.ok().zip(signal(SignalKind::terminate()).ok()) }
    }

    #[cfg(not(unix))]
    pub(crate) fn catch() -> Self {
        Self {}
    }

    /// Ends when the next one comes. Where they can't be caught, they end the program in the
    /// system's own way.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        let came = match &mut self.caught {
            Some((interrupt, terminate)) => tokio::select! {
                came = interrupt.recv() => came,
                came = terminate.recv() => came,
            },
            None => None,
        };
        #[cfg(not(unix))]
        let came = tokio::signal::ctrl_c().await.ok();
        if came.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// What Ctrl-C left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interrupted {
    /// The run, if it was begun.
    pub(crate) run: Option<RunId>,
    /// Whether it was let go; where it was not, nobody takes it over until its lease has lapsed.
    pub(crate) let_go: bool,
}

/// How driving a run ended.
pub(crate) enum Driven<T> {
    /// By itself.
    Ended(Result<T>),
    /// By Ctrl-C.
    Interrupted(Interrupted),
}

/// Watches a run being driven: shows its steps, and lets it go at its next step on Ctrl-C.
pub(crate) async fn drive<T>(
    terminal: &Terminal,
    hub: &PersistenceHub,
    work: impl Future<Output = Result<T>>,
) -> Driven<T> {
    let mut signals = EndSignals::catch();
    let mut work = pin!(work);
    let watch = Watch::new(terminal, hub.events());
    let result = tokio::select! {
        result = &mut work => Some(result),
        () = signals.next() => None,
    };
    if let Some(result) = result {
        watch.end();
        return Driven::Ended(result);
    }
    let stopping = "stopping after the step at hand; Ctrl-C again to stop at once";
    match terminal.watched {
        true => watch.bar.set_message(stopping),
        false => terminal.note(stopping),
    }
    let mut stop = pin!(hub.shutdown(GRACE));
    let mut stopped = false;
    let result = loop {
        tokio::select! {
            biased;
            result = &mut work => break Some(result),
            all_let_go = &mut stop, if !stopped => {
                stopped = true;
                if !all_let_go {
                    break None;
                }
            }
            () = signals.next() => break None,
        }
    };
    let run = watch.end();
    match result {
        Some(Err(error)) if error.kind() == ErrorKind::ShuttingDown => {
            Driven::Interrupted(Interrupted { run: error.run_id().or(run), let_go: true })
        }
        Some(result) => Driven::Ended(result),
        None => Driven::Interrupted(Interrupted { run, let_go: false }),
    }
}

/// Follows the events of a hub.
struct Watch {
    bar: ProgressBar,
    run: Arc<Mutex<Option<RunId>>>,
    task: JoinHandle<()>,
}

impl Watch {
    fn new(terminal: &Terminal, mut events: Events) -> Self {
        let bar = spinner(terminal, "starting");
        let run = Arc::new(Mutex::new(None));
        let (shown, seen) = (bar.clone(), run.clone());
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(event.run_id());
                if let HubEvent::StepStarted { step, kind, tool_id, .. } = event {
                    let tool = tool_id.map(|tool| format!(" {tool}")).unwrap_or_default();
                    shown.set_message(clean_line(&format!("{step}  ({kind}{tool})")));
                }
            }
        });
        Self { bar, run, task }
    }

    /// Clears the screen; gives the run that was begun.
    fn end(self) -> Option<RunId> {
        self.task.abort();
        self.bar.finish_and_clear();
        *self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what happens in a worker, a line for each thing.
pub(crate) async fn report(
    terminal: Terminal,
    mut events: Events,
    mut count: impl FnMut(&HubEvent),
) {
    while let Some(event) = events.next().await {
        count(&event);
        let line = match &event {
            HubEvent::RunStopped { run_id, status } => {
                format!("{run_id}  {}", terminal.err.status(*status))
            }
            HubEvent::RunSkipped { run_id, reason } => {
                format!("{run_id}  {}  {}", terminal.err.red("skipped"), clean_line(reason))
            }
            _ => continue,
        };
        terminal.note(&line);
    }
}
