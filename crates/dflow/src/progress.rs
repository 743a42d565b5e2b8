//! Shows what is going on while a run is driven, and what Ctrl-C does to it.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, Once, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dynamic_flow::{
    ErrorKind, Position, Result, RunId,
    hub::{Events, HubEvent, PersistenceHub},
};
use futures::FutureExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{sync::Notify, task::JoinHandle};

use crate::{
    context::GRACE,
    failure::Exit,
    render::{Style, clean_line, receipt},
    terminal::Terminal,
    words::verb,
};

/// A spinner on standard error; nothing where nobody watches.
pub(crate) fn spinner(terminal: &Terminal, text: &str) -> ProgressBar {
    if !terminal.watched || terminal.plain {
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
/// moment this is made; once nobody waits for them any more, they end the program at once.
pub(crate) struct EndSignals {
    signals: Signals,
    waits: Waits,
}

/// Somebody waits for signals, for as long as this is there.
struct Waits;

/// How many wait for a signal.
static WAITING: AtomicUsize = AtomicUsize::new(0);
/// How many signals somebody took.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

impl EndSignals {
    pub(crate) fn catch() -> Self {
        static WATCHED: Once = Once::new();
        WAITING.fetch_add(1, Ordering::SeqCst);
        // The system's own way is gone for good with the first that is caught.
        WATCHED.call_once(|| drop(tokio::spawn(end_where_nobody_waits(Signals::listen()))));
        Self { signals: Signals::listen(), waits: Waits }
    }

    /// Ends when the next one comes. Where they can't be caught, they end the program in the
    /// system's own way.
    pub(crate) async fn next(&mut self) {
        self.signals.next().await;
        TAKEN.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits no more; gives whether one has come that nobody took.
    pub(crate) fn close(self) -> bool {
        let Self { mut signals, waits } = self;
        // In this order: one that comes in between ends the program.
        drop(waits);
        signals.next().now_or_never().is_some()
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn end_where_nobody_waits(mut signals: Signals) {
    let mut taken = 0;
    loop {
        signals.next().await;
        // Who took this one may be gone by now.
        let before = std::mem::replace(&mut taken, TAKEN.load(Ordering::SeqCst));
        if WAITING.load(Ordering::SeqCst) == 0 && before == taken {
            std::process::exit(Exit::Interrupted as i32);
        }
    }
}

struct Signals {
    #[cfg(unix)]
    caught: Option<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)>,
}

impl Signals {
    #[cfg(unix)]
    fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt());
        Self { caught: interrupt.ok().zip(signal(SignalKind::terminate()).ok()) }
    }

    #[cfg(not(unix))]
    fn listen() -> Self {
        Self {}
    }

    async fn next(&mut self) {
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
        watch.end().await;
        return Driven::Ended(result);
    }
    let stopping = "stopping after the step at hand; Ctrl-C again to stop at once";
    match watch.bar.is_hidden() {
        true => terminal.note(stopping),
        false => watch.bar.set_message(stopping),
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
    let run = watch.end().await;
    match result {
        Some(Err(error)) if error.kind() == ErrorKind::ShuttingDown => {
            Driven::Interrupted(Interrupted { run: error.run_id().or(run), let_go: true })
        }
        Some(result) => Driven::Ended(result),
        None => Driven::Interrupted(Interrupted { run, let_go: false }),
    }
}

/// Follows the events of a hub.
pub(crate) struct Follower {
    ended: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Follower {
    pub(crate) fn new(mut events: Events, mut see: impl FnMut(HubEvent) + Send + 'static) -> Self {
        let ended = Arc::new(Notify::new());
        let end = ended.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = events.next() => match event {
                        Some(event) => see(event),
                        None => return,
                    },
                    () = end.notified() => break,
                }
            }
            while let Some(event) = events.try_next() {
                see(event);
            }
        });
        Self { ended, task }
    }

    /// Ends when everything that has happened up to now was seen.
    pub(crate) async fn end(self) {
        self.ended.notify_one();
        self.task.await.ok();
    }
}

/// Shows a run being driven.
struct Watch {
    bar: ProgressBar,
    run: Arc<Mutex<Option<RunId>>>,
    follower: Follower,
}

impl Watch {
    fn new(terminal: &Terminal, events: Events) -> Self {
        let bar = spinner(terminal, "starting");
        let run = Arc::new(Mutex::new(None));
        let (shown, seen, terminal) = (bar.clone(), run.clone(), *terminal);
        let follower = Follower::new(events, move |event| {
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(event.run_id());
            if terminal.verbose {
                tell(&terminal, &event);
            }
            if let HubEvent::StepStarted { step, kind, tool_id, .. } = event {
                let tool = tool_id.map(|tool| format!(" {tool}")).unwrap_or_default();
                shown.set_message(clean_line(&format!("{step}  ({}{tool})", verb(kind))));
            }
        });
        Self { bar, run, follower }
    }

    /// Clears the screen; gives the run that was begun.
    async fn end(self) -> Option<RunId> {
        self.follower.end().await;
        self.bar.finish_and_clear();
        *self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what happens in a worker, a line for each thing.
pub(crate) fn report(
    terminal: Terminal,
    events: Events,
    mut count: impl FnMut(&HubEvent) + Send + 'static,
) -> Follower {
    Follower::new(events, move |event| {
        count(&event);
        let ends = matches!(event, HubEvent::RunStopped { .. } | HubEvent::RunSkipped { .. });
        if ends || terminal.verbose {
            tell(&terminal, &event);
        }
    })
}

/// Does something in which nobody drives a run for whoever watches, and tells what happens where a log
/// was asked for.
pub(crate) async fn telling<T>(
    terminal: Terminal,
    hub: &PersistenceHub,
    work: impl Future<Output = T>,
) -> T {
    if !terminal.verbose {
        return work.await;
    }
    let follower = Follower::new(hub.events(), move |event| tell(&terminal, &event));
    let result = work.await;
    follower.end().await;
    result
}

fn tell(terminal: &Terminal, event: &HubEvent) {
    if let Some(line) = described(event, terminal.err) {
        match terminal.verbose {
            true => log(terminal, event.run_id(), &line),
            false => terminal.note(&format!("{}  {line}", event.run_id())),
        }
    }
}

/// Says what happened to a run, where a log was asked for; beside JSON, too.
pub(crate) fn log(terminal: &Terminal, run: RunId, line: &str) {
    if terminal.verbose {
        terminal.tell(&format!("{run}  {line}"));
    }
}

/// An event in a line, without its run.
fn described(event: &HubEvent, style: Style) -> Option<String> {
    let at = |step: &Position, what: &str| clean_line(&format!("{step}  {what}"));
    Some(match event {
        HubEvent::RunStarted { flow_id, .. } => clean_line(&format!("started  ({flow_id})")),
        HubEvent::StepStarted { step, kind, tool_id, .. } => {
            let tool = tool_id.as_ref().map(|tool| format!(" {tool}")).unwrap_or_default();
            at(step, &format!("begins  ({}{tool})", verb(kind)))
        }
        HubEvent::StepCompleted { step, .. } => at(step, "completed"),
        HubEvent::StepFailed { step, code, .. } => at(step, &format!("failed  ({code})")),
        HubEvent::WaitOpened { step, tool_id, .. } => at(step, &format!("asks  ({tool_id})")),
        HubEvent::WaitClosed { receipt: closed, .. } => receipt(closed),
        HubEvent::RunStopped { status, step, code, .. } => {
            let step = step.iter().map(|step| format!("  {step}"));
            let code = code.iter().map(|code| format!("  ({code})"));
            let why: String = step.chain(code).collect();
            style.status(*status) + &clean_line(&why)
        }
        HubEvent::RunSkipped { reason, .. } => {
            format!("{}  {}", style.red("skipped"), clean_line(reason))
        }
        _ => return None,
    })
}
