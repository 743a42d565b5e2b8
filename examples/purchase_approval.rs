//! A purchase order that a manager must approve: `purchase-approval.yaml`, in Rust.
//!
//! ```console
//! $ cargo run --example purchase_approval -- start
//! $ cargo run --example purchase_approval -- resume KEY '{"approved": true, "approved_by": "Jane"}'
//! ```
//!
//! These are two processes. Between them nothing runs; `./.suspended-flows` holds the order, sealed
//! if `FLOW_ENCRYPTION_KEY` holds a key (`dflow keygen` makes one).
#![allow(clippy::print_stdout, reason = "what it prints is for whoever runs it")]

use std::{env, error::Error, process, sync::Arc};

use dynamic_flow::{
    Flow, Result, SuspensionKey, ToolError,
    codec::Keyring,
    hours,
    hub::{Outcome, PersistenceHub},
    store::FileStore,
    tool,
    tool::{Approval, HumanInTheLoop},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, JsonSchema)]
struct Order {
    #[schemars(regex(pattern = "^PO-[0-9]+$"))]
    id: String,
    supplier: String,
    item: String,
    #[schemars(range(min = 1))]
    quantity: u32,
    price: f64,
    #[serde(default = "general")]
    department: String,
}

fn general() -> String {
    "general".into()
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct ValidOrder {
    order: Order,
    total: f64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Purchase {
    id: String,
    total: f64,
    approved_by: String,
    message: String,
}

/// Works out the total.
#[tool]
async fn validate_order(order: Order) -> Result<ValidOrder, ToolError> {
    if order.price <= 0.0 {
        return Err(ToolError::new("a price is more than nothing").permanent());
    }
    Ok(ValidOrder { total: f64::from(order.quantity) * order.price, order })
}

/// Orders from the supplier.
#[tool(effect)]
async fn process_order(
    (ValidOrder { order, total }, approval): (ValidOrder, Approval),
) -> Result<Purchase, ToolError> {
    let Order { id, supplier, item, quantity, .. } = order;
    let message = format!("{quantity} × {item} ordered from {supplier}");
    Ok(Purchase { id, total, approved_by: approval.approved_by, message })
}

fn purchase_approval() -> Result<Flow<Order, Purchase>> {
    let manager_approval = HumanInTheLoop::approval("manager-approval")
        .prompt_with(|valid: &ValidOrder| {
            let Order { id, supplier, item, quantity, .. } = &valid.order;
            format!("Approve {id}: {quantity} × {item} from {supplier} for {}?", valid.total)
        })
        .show(|valid: &ValidOrder| serde_json::json!(valid))
        .timeout(hours(4))
        .default_value(Approval {
            approved: false,
            approved_by: "system".into(),
            comments: Some("Nobody answered in time.".into()),
            delegated_to: None,
        })
        .metadata_with("department", |valid: &ValidOrder| valid.order.department.clone())
        .metadata_with("amount", |valid: &ValidOrder| valid.total);

    Flow::input::<Order>("purchase-approval")
        .tool(ValidateOrder)
        .keep(|order| order.await_input(manager_approval)) // (ValidOrder, Approval)
        .filter("approved", |(_, approval)| approval.approved)
        .tool(ProcessOrder)
        .build()
}

const YES: &str = r#"{"approved": true, "approved_by": "Jane"}"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let builder = PersistenceHub::builder(Arc::new(FileStore::new(FileStore::DEFAULT)));
    let builder = match Keyring::from_env()? {
        Some(keyring) => builder.keyring(keyring),
        None => builder.plaintext(),
    };
    let hub = builder.build().await?;
    let purchases = hub.register(purchase_approval()?)?;

    let args: Vec<String> = env::args().skip(1).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["start"] => purchases.run(serde_json::from_str(include_str!("order.json"))?).await?,
        ["start", order] => purchases.run(serde_json::from_str(order)?).await?,
        ["resume", key, answer] => {
            let answer: serde_json::Value = serde_json::from_str(answer)?;
            purchases.resume(&key.parse::<SuspensionKey>()?, answer).await?
        }
        _ => {
            eprintln!("usage: purchase_approval start [ORDER] | resume KEY ANSWER");
            process::exit(2);
        }
    };

    match outcome {
        Outcome::Suspended(parked) => {
            let wait = parked.only()?;
            let key = wait.key()?.expose();
            println!("{}\nKey: {key}", wait.prompt);
            println!("Next: cargo run --example purchase_approval -- resume {key} '{YES}'");
        }
        Outcome::Completed(done) => println!(
            "{} for {}, approved by {}",
            done.output.message, done.output.total, done.output.approved_by
        ),
        Outcome::Rejected(rejected) => println!("rejected by `{}`", rejected.step),
    }
    Ok(())
}
