//! The documents of the examples, with all their arms.

use std::sync::Arc;

use dynamic_flow::{
    ErrorKind, Flow, Scalar, Timestamp,
    codec::{EncryptionKey, Keyring},
    hours,
    hub::{Outcome, PersistenceHub, Suspension},
    store::{MemoryStore, Store},
    testkit::ManualClock,
    tool::ToolRegistry,
};
use serde_json::{Value, json};

const PURCHASE: &str = include_str!("../../../../examples/purchase-approval.yaml");
const ORDER: &str = include_str!("../../../../examples/order.json");
const REVIEW: &str = include_str!("../../../../examples/document-review.yaml");
const DOCUMENT: &str = include_str!("../../../../examples/document.json");

/// A store that hubs come and go over, as processes would.
struct World {
    store: Arc<dyn Store>,
    clock: ManualClock,
    key: EncryptionKey,
}

impl World {
    fn new() -> Self {
        let start: Timestamp = "2026-11-23T08:00:00Z".parse().unwrap();
        Self {
            store: Arc::new(MemoryStore::new()),
            clock: ManualClock::new(start),
            key: EncryptionKey::generate().unwrap(),
        }
    }

    async fn hub(&self) -> PersistenceHub {
        let builder = PersistenceHub::builder(self.store.clone()).clock(self.clock.clone());
        builder.keyring(Keyring::new(self.key.clone())).build().await.unwrap()
    }

    async fn run(&self, document: &str, input: Value) -> Outcome {
        let flow = Flow::from_document(document, &ToolRegistry::new()).unwrap();
        self.hub().await.register(&flow).unwrap().run(input).await.unwrap()
    }

    async fn park(&self, document: &str, input: &str) -> Suspension {
        match self.run(document, serde_json::from_str(input).unwrap()).await {
            Outcome::Suspended(parked) => parked,
            other => panic!("it did not park: {other:?}"),
        }
    }

    /// Answers with a hub that was never told of the flow: the document is in the run.
    async fn answer(&self, parked: &Suspension, answer: Value) -> Outcome {
        let key = parked.only().unwrap().key().unwrap();
        self.hub().await.resume(key, answer).await.unwrap()
    }
}

fn output(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Completed(done) => done.output,
        other => panic!("it did not complete: {other:?}"),
    }
}

#[tokio::test]
async fn a_purchase_is_asked_for_and_approved() {
    let world = World::new();
    let parked = world.park(PURCHASE, ORDER).await;
    let wait = parked.only().unwrap();
    assert_eq!(
        wait.prompt,
        "Approve PO-2048: 2 × Ultrasound probe, linear, 12 MHz from Harbour Medical Supplies for \
         6301.0 EUR?"
    );
    assert_eq!(wait.shown.as_ref().unwrap()["requested_by"], "Dr. Amara Osei");
    assert_eq!(wait.metadata["department"], Scalar::from("radiology"));
    assert_eq!(wait.metadata["amount"], Scalar::from(6301.0));
    assert_eq!(wait.expires_at, Some(wait.created_at.after(hours(4))));

    let answer = json!({ "approved": true, "approved_by": "Jane" });
    assert_eq!(
        output(world.answer(&parked, answer).await),
        json!({
            "id": "PO-2048",
            "status": "purchased",
            "total": 6301.0,
            "approved_by": "Jane",
            "message": "2 × Ultrasound probe, linear, 12 MHz ordered from Harbour Medical \
                        Supplies, approved by Jane.",
        })
    );
}

#[tokio::test]
async fn a_purchase_is_rejected_by_a_no_and_by_nobody() {
    let world = World::new();
    let parked = world.park(PURCHASE, ORDER).await;
    let answer = json!({ "approved": false, "approved_by": "Jane" });
    let Outcome::Rejected(rejected) = world.answer(&parked, answer).await else {
        panic!("a no was taken for a yes");
    };
    assert_eq!(rejected.step.to_string(), "approved");

    let parked = world.park(PURCHASE, ORDER).await;
    world.clock.advance(hours(4));
    let Outcome::Rejected(rejected) = world.hub().await.drive(parked.run_id).await.unwrap() else {
        panic!("nobody answered, and it went on");
    };
    assert_eq!(rejected.value["approved_by"], "system");
}

#[tokio::test]
async fn what_may_be_left_out_of_an_order_is_filled_in() {
    let world = World::new();
    let order = r#"{ "id": "PO-1", "supplier": "S", "item": "I", "quantity": 3, "price": 2 }"#;
    let parked = world.park(PURCHASE, order).await;
    let wait = parked.only().unwrap();
    assert_eq!(wait.prompt, "Approve PO-1: 3 × I from S for 6.0 EUR?");
    assert_eq!(wait.metadata["department"], Scalar::from("general"));
}

#[tokio::test]
async fn an_order_that_is_none_starts_nothing() {
    let world = World::new();
    let flow = Flow::from_document(PURCHASE, &ToolRegistry::new()).unwrap();
    let purchases = world.hub().await.register(&flow).unwrap();
    let error = purchases.run(json!({ "id": "17", "quantity": 0 })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InputValidationError);
    let places: Vec<_> = error.violations().iter().map(|v| v.pointer.as_str()).collect();
    assert!(places.contains(&"/id") && places.contains(&"/quantity"), "{places:?}");
}

#[tokio::test]
async fn a_risky_document_is_reviewed_and_approved() {
    let world = World::new();
    let parked = world.park(REVIEW, DOCUMENT).await;
    let wait = parked.only().unwrap();
    assert_eq!(
        wait.prompt,
        "Review \"Invoice 88-1203, roof repair\" (risk 0.75: unusual_amount, pressure, \
         suspicious_transaction)"
    );
    assert_eq!(wait.metadata["risk"], Scalar::from(0.75));
    let shown = wait.shown.as_ref().unwrap();
    assert_eq!(shown["document"]["author"], "Northgate Roofing Ltd");
    assert_eq!(shown["analysis"]["risk_score"], 0.75);

    let answer = json!({ "approved": true, "comments": "Looks good", "approved_by": "jane" });
    assert_eq!(
        output(world.answer(&parked, answer).await),
        json!({
            "processed": true,
            "id": "DOC-2026-0417",
            "route": "review",
            "reviewed_by": "jane",
            "comments": "Looks good",
        })
    );
}

#[tokio::test]
async fn a_risky_document_is_rejected() {
    let world = World::new();
    let parked = world.park(REVIEW, DOCUMENT).await;
    let answer = json!({ "approved": false, "comments": "a fraud", "approved_by": "jane" });
    let Outcome::Rejected(rejected) = world.answer(&parked, answer).await else {
        panic!("a no was taken for a yes");
    };
    assert_eq!(rejected.step.to_string(), "route/approved");
    assert_eq!(rejected.value["comments"], "a fraud");
}

#[tokio::test]
async fn a_harmless_document_asks_nobody() {
    let world = World::new();
    let document = json!({ "id": "7", "title": "Minutes", "text": "We met and went home." });
    assert_eq!(
        output(world.run(REVIEW, document).await),
        json!({ "processed": true, "id": "DOC-7", "route": "auto" })
    );
    let one_flag = json!({ "id": "8", "title": "Gift", "text": "In cash, please.", "amount": 5 });
    assert_eq!(output(world.run(REVIEW, one_flag).await)["route"], "auto");
}
