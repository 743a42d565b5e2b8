//! What is traced: the run, its steps and tools, and never a key or what anybody said.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use serde_json::json;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt as _},
};

use crate::support::{Counts, Order, World, approval_flow, completed, suspended};

/// Keeps all that is traced, a line each.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_new_span(&self, span: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut line = Line(format!("span {}", span.metadata().name()));
        span.record(&mut line);
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
    let hub = World::new().hub().await;
    let handle = hub.register(approval_flow(&Counts::default())).unwrap();
    let order = Order { id: "told-in-an-order".into(), total: 250 };
    let suspension = suspended(handle.run(order).await);
    let key = suspension.only().unwrap().key().unwrap().clone();
    completed(hub.resume(&key, json!({ "approved": true, "by": "told-in-an-answer" })).await);

    let (lines, run) = (lines.all(), suspension.run_id);
    let times = |line: &str| lines.iter().filter(|it| *it == line).count();
    assert_eq!(times(&format!("span run run={run} flow=purchase")), 2, "{lines:#?}");
    for tool in ["validate", "process"] {
        let span = format!("span tool run={run} step={tool} tool={tool}");
        assert_eq!(times(&span), 1, "{span} {lines:#?}");
    }
    let secret = key.expose().to_string();
    for secret in [&secret[..], &secret[secret.len() - 20..], "told-in-an"] {
        assert!(lines.iter().all(|line| !line.contains(secret)), "{lines:#?}");
    }
}
