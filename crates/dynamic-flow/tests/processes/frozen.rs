//! A holder that is stopped for longer than its lease, and goes on after somebody else took over.

use std::{sync::Arc, time::Duration};

use dynamic_flow::{
    Epoch, ErrorKind, Flow, RunId, RunStatus, SuspensionKey, Timestamp, ToolError,
    hub::Outcome,
    store::Store,
    tool::{AwaitInput, tool_fn},
};
use serde_json::json;

use crate::support::{
    Ground, Place, Process, append, hub, note, on_each_store, say, setting, store, told, until,
};

on_each_store!(a_holder_that_freezes_past_its_lease_changes_nothing_when_it_thaws);

/// Long enough for a busy machine to renew it in time.
const LEASE: Duration = Duration::from_secs(2);
const RETRY_DELAY: Duration = Duration::from_millis(1);

/// A wait, a tool that does what it is told to, and one more after it.
fn flow(work: impl Fn() + Clone + Send + Sync + 'static) -> Flow<String, String> {
    Flow::input::<String>("frozen")
        .await_input(AwaitInput::<String>::new("ask").no_timeout())
        .tool(tool_fn("work", move |text: String| {
            let work = work.clone();
            async move {
                tokio::task::spawn_blocking(work).await.unwrap();
                Ok::<_, ToolError>(text)
            }
        }))
        .tool(tool_fn("sign", |text: String| async move {
            Ok::<_, ToolError>(format!("{text} by process {}", std::process::id()))
        }))
        .build()
        .unwrap()
}

/// The process that freezes in its tool.
pub(crate) async fn holder() {
    let hub = hub(store()).retry_delay(RETRY_DELAY).lease(LEASE).build().await.unwrap();
    let log = Arc::new(append("worked"));
    hub.register(flow(move || {
        note(&log, &std::process::id());
        say("working");
        assert_eq!(told().as_deref(), Some("go on"));
    }))
    .unwrap();
    let key: SuspensionKey = setting::<String>("SUSPENSION_KEY").unwrap().parse().unwrap();
    match hub.resume(&key, json!("done")).await {
        Ok(outcome) => say(&format!("{outcome:?}")),
        Err(error) => say(error.kind().as_str()),
    }
}

fn a_holder_that_freezes_past_its_lease_changes_nothing_when_it_thaws(ground: &Ground) {
    let place = Place::new(ground);
    tokio::runtime::Runtime::new().unwrap().block_on(freeze_and_thaw(&place));
}

async fn freeze_and_thaw(place: &Place) {
    let store = place.store();
    let hub = hub(store.clone()).retry_delay(RETRY_DELAY).lease(LEASE).build().await.unwrap();
    let handle = hub.register(flow(|| {})).unwrap();
    let Ok(Outcome::Suspended(parked)) = handle.run("order".into()).await else { panic!() };
    let (run, wait) = (parked.run_id, parked.only().unwrap());
    let key = wait.key().unwrap().expose().to_string();

    let mut holder = Process::start("holder", place, &[("SUSPENSION_KEY", key.clone())]);
    assert_eq!(holder.hear().as_deref(), Some("working"));
    // As long as it lives it keeps its lease, however long its tool works.
    let lease = async || lease_end(store.as_ref(), run).await;
    let first = lease().await;
    until("the lease is renewed", async || lease().await > first).await;
    assert_eq!(hub.work_once().await.unwrap().driven, 0, "it is held");
    // It must not freeze with a lock of the store in its hands: who asks for it knows it to be free.
    let stranger = store.renew(run, Epoch(u64::MAX), Timestamp::from_millis(0)).await;
    assert_eq!(stranger.unwrap_err().kind(), ErrorKind::Conflict);

    holder.signal("STOP");
    until("its lease lapses and it is taken over", async || {
        hub.work_once().await.unwrap().driven == 1
    })
    .await;
    let view = hub.get(run).await.unwrap();
    assert_eq!(view.status, RunStatus::Completed);
    assert_eq!(view.output, Some(json!(format!("done by process {}", std::process::id()))));
    let record = store.get(run).await.unwrap();

    holder.signal("CONT");
    holder.tell("go on");
    assert_eq!(holder.hear().as_deref(), Some(ErrorKind::RunBusy.as_str()));
    holder.end();
    assert_eq!(store.get(run).await.unwrap(), record, "nothing of it is written");
    assert_eq!(place.lines::<u32>("worked").len(), 1, "its tool worked once");
    let again = hub.resume(&key.parse().unwrap(), json!("again")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyResumed);
}

async fn lease_end(store: &dyn Store, run: RunId) -> Timestamp {
    store.get(run).await.unwrap().unwrap().lease.expect("somebody holds it").until
}
