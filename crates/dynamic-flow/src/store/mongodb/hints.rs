//! Hears of writes by a change stream.
//!
//! A write that others may wait for counts up a field of its own, which is what the stream is
//! asked for: nothing else travels. Only replica sets and sharded clusters have change streams.

use std::time::Duration;

use futures::TryStreamExt as _;
use mongodb::bson::{Document, RawDocumentBuf, doc};

use super::connection::Connection;
use crate::store::{Hint, Hinter};

/// How long to wait before a stream that broke is opened again; it doubles up to the second one.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// The field that counts hints of that kind.
pub(super) fn field(hint: Hint) -> &'static str {
    match hint {
        Hint::Due => "dueHints",
        Hint::Idle => "idleHints",
    }
}

/// Passes on what is written, for as long as it is let.
pub(super) async fn listen(connection: Connection, hinter: Hinter) {
    let mut pause = PAUSES.0;
    loop {
        if let Err(error) = pass_on(&connection, &hinter, &mut pause).await {
            tracing::debug!(%error, "no change stream: workers look from time to time instead");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

async fn pass_on(
    connection: &Connection,
    hinter: &Hinter,
    pause: &mut Duration,
) -> mongodb::error::Result<()> {
    let events = connection.records.watch().pipeline(interesting()).await?;
    let mut events = events.with_type::<RawDocumentBuf>();
    // What was written while nobody listened may have been of interest.
    Hint::ALL.into_iter().for_each(|hint| hinter.give(hint));
    while let Some(event) = events.try_next().await? {
        *pause = PAUSES.0;
        for hint in Hint::ALL {
            // The field's name stands nowhere else in an event.
            if event.get(field(hint)).is_ok_and(|told| told.is_some()) {
                hinter.give(hint);
            }
        }
    }
    Ok(())
}

/// Events with hints, and of those nothing but which.
fn interesting() -> Vec<Document> {
    let places = ["fullDocument", "updateDescription.updatedFields"];
    let mut any = Vec::new();
    let mut shown = doc! { "operationType": 1 };
    for hint in Hint::ALL {
        let name = field(hint);
        any.extend(places.map(|place| doc! { format!("{place}.{name}"): { "$exists": true } }));
        let [new, changed] = places.map(|place| format!("${place}.{name}"));
        shown.insert(name, doc! { "$ifNull": [changed, new] });
    }
    vec![doc! { "$match": { "$or": any } }, doc! { "$project": shown }]
}
