//! The cycle: an order of 4 KiB goes through two tools, a wait, and two more tools.

use std::sync::Arc;

use dynamic_flow::{
    Flow, SuspensionKey, ToolError,
    codec::{EncryptionKey, Keyring},
    hours,
    hub::{Handle, Outcome, PersistenceHub, RunOptions},
    store::Store,
    tool::{AwaitInput, tool_fn},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Result;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Order {
    id: String,
    customer: String,
    lines: Vec<Line>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Line {
    article: String,
    description: String,
    quantity: u32,
    cents: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Priced {
    order: Order,
    total: u64,
    risk: u8,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Approval {
    approved: bool,
    approved_by: String,
    comments: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Processed {
    id: String,
    total: u64,
    approved_by: String,
}

impl Order {
    /// An order of 4 KiB of JSON, no two alike, of words that repeat as words do.
    pub(crate) fn new(number: usize) -> Self {
        const WORDS: [&str; 24] = [
            "steel", "bracket", "hinge", "left", "right", "brushed", "anodised", "M8", "panel",
            "oak", "frame", "seal", "gasket", "mount", "heavy", "duty", "outdoor", "white",
            "black", "grey", "set", "of", "four", "spare",
        ];
        let mut state = number as u64 ^ 0x9e37_79b9_7f4a_7c15;
        let mut next = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut order = Self {
            id: format!("PO-{number:08}"),
            customer: format!("customer-{}", number % 1000),
            lines: Vec::new(),
        };
        let mut size = 0;
        while size < 4000 {
            let words: Vec<_> = (0..7).map(|_| WORDS[next(24) as usize]).collect();
            let line = Line {
                article: format!("{:08x}", next(u64::from(u32::MAX))),
                description: words.join(" "),
                quantity: next(90) as u32 + 1,
                cents: next(100_000),
            };
            size += serde_json::to_string(&line).map_or(0, |line| line.len() + 1);
            order.lines.push(line);
        }
        order
    }

    /// The customer, as plain metadata.
    pub(crate) fn options(&self) -> RunOptions {
        RunOptions::new().metadata("customer", self.customer.as_str())
    }
}

/// The flow of that id, whose question may be answered for so many hours.
pub(crate) fn flow(id: &str, deadline: u64) -> dynamic_flow::Result<Flow<Order, Processed>> {
    let approval = AwaitInput::<Approval>::new("manager-approval")
        .name("Manager approval")
        .prompt_with(|order: &Priced| format!("Approve {} for {}?", order.order.id, order.total))
        .timeout(hours(deadline));
    Flow::input::<Order>(id)
        .tool(tool_fn("price", |order: Order| async move {
            let total = order.lines.iter().map(|line| u64::from(line.quantity) * line.cents).sum();
            Ok::<_, ToolError>(Priced { order, total, risk: 0 })
        }))
        .tool(tool_fn("assess", |order: Priced| async move {
            let risk = if order.total > 100_000 { 7 } else { 1 };
            Ok::<_, ToolError>(Priced { risk, ..order })
        }))
        .keep(|order| order.await_input(approval))
        .tool(tool_fn("decide", |(order, approval): (Priced, Approval)| async move {
            if !approval.approved {
                return Err(ToolError::new("not approved").permanent());
            }
            Ok::<_, ToolError>((order, approval.approved_by))
        }))
        .tool(tool_fn("process", |(order, approved_by): (Priced, String)| async move {
            Ok::<_, ToolError>(Processed { id: order.order.id, total: order.total, approved_by })
        }))
        .build()
}

/// What is answered.
pub(crate) fn approval() -> Value {
    json!({ "approved": true, "approved_by": "jane", "comments": "within the budget" })
}

/// A hub over a store, with gzip and encryption on, and the flow registered with it.
#[derive(Debug, Clone)]
pub(crate) struct Bench {
    pub(crate) hub: PersistenceHub,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keyring: Keyring,
    handle: Handle<Order, Processed>,
}

impl Bench {
    pub(crate) async fn over(store: Arc<dyn Store>) -> Result<Self> {
        let keyring = Keyring::new(EncryptionKey::generate()?);
        let builder = PersistenceHub::builder(store.clone()).keyring(keyring.clone());
        let hub = builder.build().await?;
        let handle = hub.register(flow("purchase", 24)?)?;
        Ok(Self { hub, store, keyring, handle })
    }

    /// Runs the flow up to its wait.
    pub(crate) async fn park(&self, order: Order) -> Result<SuspensionKey> {
        park(&self.handle, order).await
    }

    /// Answers, and runs the flow to its end.
    pub(crate) async fn finish(&self, key: &SuspensionKey) -> Result<()> {
        match self.handle.resume(key, approval()).await? {
            Outcome::Completed(done) if done.output.approved_by == "jane" => Ok(()),
            other => Err(format!("not completed: {other:?}").into()),
        }
    }

    /// The whole of it.
    pub(crate) async fn cycle(&self, order: Order) -> Result<()> {
        let key = self.park(order).await?;
        self.finish(&key).await
    }
}

/// Runs a flow up to its wait.
pub(crate) async fn park(handle: &Handle<Order, Processed>, order: Order) -> Result<SuspensionKey> {
    let options = order.options();
    match handle.run_with(order, options).await? {
        Outcome::Suspended(suspension) => Ok(suspension.only()?.key()?.clone()),
        other => Err(format!("not suspended: {other:?}").into()),
    }
}
