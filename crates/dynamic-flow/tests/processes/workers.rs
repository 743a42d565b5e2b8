//! Several workers on one store, one of which is killed in the middle of its work.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use dynamic_flow::{
    Flow, RunId, RunStatus, ToolContext, ToolError, hours,
    hub::{HubOptions, Outcome},
    seconds,
    store::Filter,
    tool::FnTool,
};
use serde::{Deserialize, Serialize};

use crate::support::{
    Ground, Place, Process, WrongBy, append, hub, note, on_each_store, say, setting, store, told,
    until,
};

on_each_store!(each_due_run_is_driven_once_and_those_of_a_dead_worker_once_more);

const WORKERS: usize = 3;
const RUNS: usize = 200;
/// Of each worker, at once.
const CONCURRENCY: usize = 8;
/// At which of its runs the first worker gets stuck, to be killed.
const LAST: usize = 20;

/// A tool was called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Called {
    run: RunId,
    key: String,
    worker: usize,
}

fn settings(options: &mut HubOptions) {
    options.retry_delay = Duration::from_millis(1);
    options.poll_interval = Duration::from_millis(20);
    options.concurrency = CONCURRENCY;
    // Long enough for a busy machine to renew it in time.
    options.lease = seconds(5);
}

fn flow(work: impl Fn(&ToolContext) + Clone + Send + Sync + 'static) -> Flow<u64, u64> {
    Flow::input::<u64>("worked-at")
        .sleep("nap", hours(1))
        .tool(FnTool::with_context("work", move |n: u64, context| {
            let work = work.clone();
            async move {
                work(&context);
                Ok::<_, ToolError>(n)
            }
        }))
        .build()
        .unwrap()
}

/// A worker for which all that was parked within the last hour is due.
pub(crate) async fn worker() {
    let number = setting("NUMBER").unwrap();
    let hub = hub(store()).configure(settings).clock(WrongBy(hours(2))).build().await.unwrap();
    let (log, calls) = (Arc::new(append("calls")), AtomicUsize::new(0));
    let calls = Arc::new(calls);
    hub.register(flow(move |context| {
        let (run, key) = (context.run_id, context.idempotency_key.clone());
        note(&log, &Called { run, key, worker: number });
        let made = calls.fetch_add(1, Ordering::SeqCst) + 1;
        if number == 0 && made == LAST {
            say("at work");
        }
        // The runs that it does not get to any more are for the others.
        if number == 0 && made >= LAST {
            loop {
                thread::park();
            }
        }
    }))
    .unwrap();
    let working = tokio::spawn({
        let hub = hub.clone();
        async move { hub.work().await }
    });
    tokio::task::spawn_blocking(told).await.unwrap();
    assert!(hub.shutdown(seconds(30)).await);
    working.await.unwrap().unwrap();
}

fn each_due_run_is_driven_once_and_those_of_a_dead_worker_once_more(ground: &Ground) {
    let place = Place::new(ground);
    tokio::runtime::Runtime::new().unwrap().block_on(work_off(&place));
}

async fn work_off(place: &Place) {
    let store = place.store();
    let hub = hub(store.clone()).configure(settings).build().await.unwrap();
    let handle = hub.register(flow(|_| panic!("nobody works here"))).unwrap();
    let mut runs = BTreeSet::new();
    for n in 0..RUNS {
        match handle.run(n as u64).await {
            Ok(Outcome::Suspended(parked)) => runs.insert(parked.run_id),
            other => panic!("{other:?}"),
        };
    }

    // The first one comes to its last run whatever the others do, and they while it still has leases.
    let start = |number: usize| Process::start("worker", place, &[("NUMBER", number.to_string())]);
    let mut first = start(0);
    assert_eq!(first.hear().as_deref(), Some("at work"));
    let mut others: Vec<_> = (1..WORKERS).map(start).collect();
    until("the others are at work", async || {
        // The last line may be in the making.
        let calls = fs::read_to_string(place.path.join("calls")).unwrap_or_default();
        (1..WORKERS).any(|number| calls.contains(&format!("\"worker\":{number}")))
    })
    .await;
    first.kill();
    until("all runs are completed", async || {
        let status = BTreeSet::from([RunStatus::Completed]);
        let filter = Filter { status, ..Filter::default() };
        store.query(&filter, None, RUNS + 1).await.unwrap().items.len() == RUNS
    })
    .await;
    for worker in &mut others {
        worker.end();
    }

    let mut calls: BTreeMap<RunId, Vec<Called>> = BTreeMap::new();
    for call in place.lines::<Called>("calls") {
        calls.entry(call.run).or_default().push(call);
    }
    assert_eq!(calls.keys().copied().collect::<BTreeSet<_>>(), runs, "none is lost");
    let mut again = 0;
    for calls in calls.values() {
        match &calls[..] {
            [_] => {}
            [dead, after] => {
                again += 1;
                assert_eq!(dead.worker, 0, "only what a dead worker left is done again: {calls:?}");
                assert_ne!(after.worker, 0, "{calls:?}");
                assert_eq!(dead.key, after.key, "as the same call");
            }
            _ => panic!("{calls:?}"),
        }
    }
    assert!(
        (1..=CONCURRENCY).contains(&again),
        "{again} runs were in the hands of the dead worker"
    );
}
