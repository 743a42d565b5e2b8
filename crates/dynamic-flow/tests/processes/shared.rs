//! A store that is new to several processes at once, and one whose users die.

use dynamic_flow::{
    Flow, RunId, RunStatus, SuspensionKey, ToolError,
    hub::{Outcome, PersistenceHub},
    store::{self, Filter},
    tool::{AwaitInput, tool_fn},
};
use serde_json::json;

use crate::support::{Ground, Place, Process, hub, on_each_store, say, store, told};

on_each_store!(
    processes_that_provision_at_once_all_find_a_store,
    what_dead_processes_leave_behind_blocks_nobody,
);

const PROCESSES: usize = 4;
const STORES: usize = 25;
const DEATHS: u32 = 25;

fn flow() -> Flow<String, String> {
    Flow::input::<String>("shared")
        .await_input(AwaitInput::<String>::new("ask").no_timeout())
        .tool(tool_fn("end", |text: String| async move { Ok::<_, ToolError>(text) }))
        .build()
        .unwrap()
}

/// Runs the flow from its beginning to its end.
async fn use_it(hub: &PersistenceHub) -> RunId {
    let handle = hub.register(flow()).unwrap();
    let Ok(Outcome::Suspended(parked)) = handle.run("order".into()).await else { panic!() };
    let key: &SuspensionKey = parked.only().unwrap().key().unwrap();
    let outcome = hub.resume(key, json!("done")).await;
    assert!(matches!(outcome, Ok(Outcome::Completed(_))), "{outcome:?}");
    parked.run_id
}

/// A process that uses each store that it is told of, which nobody has provisioned.
pub(crate) async fn newcomer() {
    say("ready");
    while let Some(url) = told() {
        let hub = hub(store::open(&url).unwrap()).build().await.unwrap();
        say(&use_it(&hub).await.to_string());
    }
}

fn processes_that_provision_at_once_all_find_a_store(ground: &Ground) {
    let place = Place::new(ground);
    let mut processes: Vec<_> =
        (0..PROCESSES).map(|_| Process::start("newcomer", &place, &[])).collect();
    for process in &mut processes {
        assert_eq!(process.hear().as_deref(), Some("ready"));
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for _ in (0..STORES).step_by(ground.step()) {
        let place = Place::new(&ground.anew());
        for process in &mut processes {
            process.tell(&place.url);
        }
        let runs: Vec<RunId> = processes
            .iter_mut()
            .map(|process| process.hear().expect("its run").parse().unwrap())
            .collect();
        runtime.block_on(all_completed(&place.store(), &runs));
    }
    for process in &mut processes {
        process.end();
    }
}

/// A process that uses the store without end, and tells each run that it saw completed.
pub(crate) async fn user() {
    let hub = hub(store()).build().await.unwrap();
    loop {
        say(&use_it(&hub).await.to_string());
    }
}

fn what_dead_processes_leave_behind_blocks_nobody(ground: &Ground) {
    let place = Place::new(ground);
    let mut told: Vec<RunId> = Vec::new();
    let mut hear = |process: &mut Process| {
        told.push(process.hear().expect("a run").parse().unwrap());
    };
    let mut steady = Process::start("user", &place, &[]);
    hear(&mut steady);
    for death in 0..DEATHS {
        let mut dying = Process::start("user", &place, &[]);
        for _ in 0..=death % 3 {
            hear(&mut dying);
        }
        // In the middle of one of its many writes, wherever that is.
        std::thread::sleep(std::time::Duration::from_micros(u64::from(death * 137 % 1000)));
        dying.kill();
        steady.forget();
        hear(&mut steady);
    }
    steady.kill();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = place.store();
        let hub = hub(store.clone()).build().await.unwrap();
        told.push(use_it(&hub).await);
        let found = all_of(&store, None).await;
        let completed = all_of(&store, Some(RunStatus::Completed)).await;
        for run in &told {
            assert!(completed.contains(run), "{run} was told to be completed");
        }
        // What was not told may have come as far as it likes; but each can be read and removed.
        for run in &found {
            hub.get(*run).await.unwrap();
        }
        let cleaned = hub.cleanup(&dynamic_flow::hub::Cleanup::new().all()).await.unwrap();
        assert!(cleaned.errors.is_empty(), "{cleaned:?}");
        assert!(cleaned.deleted_count >= told.len());
    });
}

async fn all_of(
    store: &std::sync::Arc<dyn dynamic_flow::store::Store>,
    status: Option<RunStatus>,
) -> Vec<RunId> {
    let filter = Filter { status: status.into_iter().collect(), ..Filter::default() };
    let page = store.query(&filter, None, 100_000).await.unwrap();
    page.readable().map(|run| run.id).collect()
}

async fn all_completed(store: &std::sync::Arc<dyn dynamic_flow::store::Store>, runs: &[RunId]) {
    let mut completed = all_of(store, Some(RunStatus::Completed)).await;
    let mut runs = runs.to_vec();
    completed.sort_unstable();
    runs.sort_unstable();
    assert_eq!(completed, runs);
}
