//! What is traced: the run, its steps and tools, and never a key or what anybody said.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use dynamic_flow::testkit::faults::{Moment, Operation};
use serde_json::json;
use tracing::{
    Event, Instrument as _, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
};

use crate::support::{Counts, Order, World, approval_flow, completed, faulty, suspended};

/// Keeps all that is traced, a line each.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, span: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut line = Line(format!("span {}", span.metadata().name()));
        span.record(&mut line);
        if let Some(around) = context.span(id).and_then(|span| span.parent()) {
            line.0.push_str(&format!(" in {}", around.name()));
        }
        self.0.lock().unwrap().push(line.0);
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line("event".into());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!(" {}={value:?}", field.name()));
    }
}

#[tokio::test]
async fn spans_say_which_run_step_and_tool_and_nothing_that_anybody_said() {
    let lines = Lines::default();
    // For all threads: what one of them alone listens to, others may have turned off.
    tracing::subscriber::set_global_default(Registry::default().with(lines.clone())).unwrap();
    let (faults, world) = faulty(&World::new());
    let hub = world.hub().await;
    let handle = hub.register(approval_flow(&Counts::default())).unwrap();
    let order = Order { id: "told-in-an-order".into(), total: 250 };
    let request = tracing::info_span!("request");
    let suspension = suspended(handle.run(order).instrument(request.clone()).await);
    let key = suspension.only().unwrap().key().unwrap().clone();
    let answer = json!({ "approved": true, "by": "told-in-an-answer" });
    // The store is waited for, so that a task of its own goes on with it.
    let pause = faults.pause_next(Operation::Get, Moment::Before);
    let resuming = tokio::spawn({
        let (hub, key) = (hub.clone(), key.clone());
        async move { hub.resume(&key, answer).await }.instrument(request)
    });
    pause.reached().await;
    pause.release();
    completed(resuming.await.unwrap());

    let (lines, run) = (lines.all(), suspension.run_id);
    let times = |line: &str| lines.iter().filter(|it| *it == line).count();
    let span = format!("span run run={run} flow=purchase in request");
    assert_eq!(times(&span), 2, "{span} {lines:#?}");
    for tool in ["validate", "process"] {
        let span = format!("span tool run={run} step={tool} tool={tool} in run");
        assert_eq!(times(&span), 1, "{span} {lines:#?}");
    }
    let secret = key.expose().to_string();
    for secret in [&secret[..], &secret[secret.len() - 20..], "told-in-an"] {
        assert!(lines.iter().all(|line| !line.contains(secret)), "{lines:#?}");
    }
}
