//! A document that a person reviews if it looks risky, and that goes straight through if not:
//! `document-review.yaml`, in Rust.
//!
//! ```console
//! $ cargo run --example document_review -- start
//! $ cargo run --example document_review -- resume KEY \
//!     '{"approved": true, "comments": "Looks good", "approved_by": "jane@company.com"}'
//! ```
//!
//! `start` takes a document of your own as JSON, too. State is kept in `./.suspended-flows`.
#![allow(clippy::print_stdout, reason = "what it prints is for whoever runs it")]

use std::{env, error::Error, process};

use dynamic_flow::{
    Flow, Result, SuspensionKey, ToolError, hours,
    hub::{Outcome, PersistenceHub},
    store, tool,
    tool::AwaitInput,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Document {
    id: String,
    title: String,
    #[serde(default)]
    amount: f64,
    text: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Analysis {
    risk_score: f64,
    flagged_items: Vec<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Review {
    approved: bool,
    comments: String,
    approved_by: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Processed {
    id: String,
    reviewed_by: Option<String>,
}

/// Flags what a careful reader would stumble over.
#[tool]
async fn analyze(document: Document) -> Result<Analysis, ToolError> {
    let says = |words: [&str; 2]| words.iter().any(|word| document.text.contains(word));
    let flags = [
        ("unusual_amount", document.amount > 10_000.0),
        ("pressure", says(["urgent", "immediately"])),
        ("suspicious_transaction", says(["cash", "new account"])),
    ];
    let flagged_items: Vec<String> =
        flags.into_iter().filter(|flag| flag.1).map(|flag| flag.0.into()).collect();
    let flags = flagged_items.len() as f64;
    Ok(Analysis { risk_score: flags / (flags + 1.0), flagged_items })
}

/// Files the document.
#[tool(effect)]
async fn process_document(
    (document, review): (Document, Option<Review>),
) -> Result<Processed, ToolError> {
    let reviewed_by = review.map(|review| review.approved_by);
    Ok(Processed { id: format!("DOC-{}", document.id), reviewed_by })
}

fn document_review() -> Result<Flow<Document, Processed>> {
    type Analyzed = (Document, Analysis);
    let human_review = AwaitInput::<Review>::new("human-review")
        .name("Human review required")
        .description("The document requires human review because of its risk score.")
        .prompt_with(|(document, analysis): &Analyzed| {
            let flags = analysis.flagged_items.join(", ");
            format!("Review {:?} (risk {:.2}: {flags})", document.title, analysis.risk_score)
        })
        .show(|(document, _): &Analyzed| document.clone())
        .timeout(hours(4))
        .default_value(Review {
            approved: false,
            comments: "Review timed out".into(),
            approved_by: "system".into(),
        })
        .metadata_with("document", |(document, _): &Analyzed| document.id.clone());

    Flow::input::<Document>("document-review")
        .keep(|document| document.tool(Analyze))
        .switch_route(
            "route",
            |(_, analysis)| if analysis.risk_score > 0.5 { "review" } else { "auto" },
            |arms| {
                arms.arm("review", |analyzed| {
                    analyzed
                        .keep(|analyzed| analyzed.await_input(human_review))
                        .filter("approved", |(_, review)| review.approved)
                        .map("reviewed", |((document, _), review)| (document, Some(review)))
                        .tool_as("process-reviewed", ProcessDocument)
                })
                .arm("auto", |analyzed| {
                    analyzed
                        .map("unreviewed", |(document, _)| (document, None))
                        .tool_as("process-unreviewed", ProcessDocument)
                })
            },
        )
        .build()
}

const YES: &str = r#"{"approved": true, "comments": "Looks good", "approved_by": "Jane"}"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Whoever reads the folder reads the documents: in earnest, say `.keyring(…)`.
    let store = store::open("file:./.suspended-flows")?;
    let hub = PersistenceHub::builder(store).plaintext().build().await?;
    let reviews = hub.register(document_review()?)?;

    let args: Vec<String> = env::args().skip(1).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["start"] => reviews.run(serde_json::from_str(include_str!("document.json"))?).await?,
        ["start", document] => reviews.run(serde_json::from_str(document)?).await?,
        ["resume", key, answer] => {
            let answer: serde_json::Value = serde_json::from_str(answer)?;
            reviews.resume(&key.parse::<SuspensionKey>()?, answer).await?
        }
        _ => {
            eprintln!("usage: document_review start [DOCUMENT] | resume KEY ANSWER");
            process::exit(2);
        }
    };

    match outcome {
        Outcome::Suspended(parked) => {
            let wait = parked.only()?;
            let key = wait.key()?.expose();
            println!("{}\nKey: {key}", wait.prompt);
            println!("Next: cargo run --example document_review -- resume {key} '{YES}'");
        }
        Outcome::Completed(done) => match done.output.reviewed_by {
            Some(reviewer) => println!("{} processed, reviewed by {reviewer}", done.output.id),
            None => println!("{} processed without a review", done.output.id),
        },
        Outcome::Rejected(rejected) => println!("rejected by `{}`", rejected.step),
    }
    Ok(())
}
