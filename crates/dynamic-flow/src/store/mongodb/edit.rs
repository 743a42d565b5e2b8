//! A change as what a server makes of it in one step.

use std::time::Duration;

use mongodb::{
    bson::{Bson, Document, doc},
    options::UpdateModifications,
};

use super::{
    document::{counter, inbox, lease, metadata, purge_at, sealed, waits},
    hints,
    trouble::Trouble,
};
use crate::store::Change;

/// What of a document changes.
pub(super) struct Edit {
    /// What goes up by one: the revision, and what hints are told by.
    counts: Vec<&'static str>,
    set: Document,
    unset: Vec<&'static str>,
    /// How many items leave the front of the inbox.
    drop: i32,
    /// What is appended to it after that.
    push: Vec<Bson>,
}

impl Edit {
    pub(super) fn of(change: &Change, margin: Option<Duration>) -> Result<Self, Trouble> {
        let counts = change.hints().map(hints::field).chain(["revision"]).collect();
        let mut edit =
            Self { counts, set: Document::new(), unset: Vec::new(), drop: 0, push: Vec::new() };
        edit.purge(change, margin);
        edit.set("updatedAt", change.updated_at.as_millis());
        if let Some(epoch) = change.epoch {
            edit.set("epoch", counter(epoch.0)?);
        }
        if let Some(queue) = &change.queue {
            edit.set_or_unset("queue", queue.as_ref().map(|queue| queue.0.as_str()));
        }
        if let Some(status) = change.status {
            edit.set("status", status.as_str());
        }
        if let Some(all) = &change.waits {
            edit.set("waits", waits(all));
        }
        if let Some(all) = &change.metadata {
            edit.set("metadata", metadata(all));
        }
        if let Some(due_at) = change.due_at {
            edit.set_or_unset("dueAt", due_at.map(|at| at.as_millis()));
        }
        if let Some(attempts) = change.attempts {
            edit.set("attempts", i64::from(attempts));
        }
        if let Some(held) = &change.lease {
            edit.set_or_unset("lease", held.as_ref().map(lease));
        }
        if let Some(snapshot) = &change.snapshot {
            edit.set("snapshot", sealed(snapshot));
        }
        if let Some(whole) = &change.inbox {
            edit.set("inbox", inbox(whole));
        } else {
            edit.drop = i32::try_from(change.inbox_drop).unwrap_or(i32::MAX);
            edit.push = inbox(&change.inbox_push);
        }
        Ok(edit)
    }

    /// Says when the server may remove the record. A write that leaves open whether the run has
    /// ended and until when it is kept takes the date away: rather too late than too early.
    fn purge(&mut self, change: &Change, margin: Option<Duration>) {
        if change.status.is_none() && change.queue.is_none() && change.due_at.is_none() {
            return;
        }
        let at = change.status.and_then(|status| {
            let queue = change.queue.as_ref()?.as_ref();
            purge_at(status, queue, change.due_at.flatten(), margin)
        });
        self.set_or_unset("purgeAt", at);
    }

    fn set(&mut self, field: &'static str, value: impl Into<Bson>) {
        self.set.insert(field, value);
    }

    fn set_or_unset(&mut self, field: &'static str, value: Option<impl Into<Bson>>) {
        match value {
            Some(value) => self.set(field, value),
            None => self.unset.push(field),
        }
    }

    pub(super) fn into_update(self) -> UpdateModifications {
        // Operators can append to an array, but not drop so many items from its front as well.
        if self.drop == 0 { self.operators().into() } else { self.pipeline().into() }
    }

    fn operators(self) -> Document {
        let counts: Document =
            self.counts.into_iter().map(|name| (name.into(), 1_i64.into())).collect();
        let mut update = doc! { "$inc": counts, "$set": self.set };
        if !self.unset.is_empty() {
            let unset: Document =
                self.unset.into_iter().map(|name| (name.into(), "".into())).collect();
            update.insert("$unset", unset);
        }
        if !self.push.is_empty() {
            update.insert("$push", doc! { "inbox": { "$each": self.push } });
        }
        update
    }

    fn pipeline(self) -> Vec<Document> {
        // A text that begins with a dollar would be taken for a field.
        let literal = |(name, value)| (name, doc! { "$literal": value }.into());
        let mut set: Document = self.set.into_iter().map(literal).collect();
        for name in self.counts {
            let count = doc! { "$ifNull": [format!("${name}"), 0_i64] };
            set.insert(name, doc! { "$add": [count, 1_i64] });
        }
        let kept = doc! { "$slice": ["$inbox", self.drop, i32::MAX] };
        set.insert("inbox", doc! { "$concatArrays": [kept, { "$literal": self.push }] });
        let mut stages = vec![doc! { "$set": set }];
        if !self.unset.is_empty() {
            stages.push(doc! { "$unset": self.unset });
        }
        stages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{Timestamp, days},
        codec::Sealed,
        engine::RunStatus,
        store::Queue,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_795_420_800_000);

    fn document(change: &Change) -> Document {
        match Edit::of(change, Some(days(7))).unwrap().into_update() {
            UpdateModifications::Document(update) => update,
            other => panic!("operators were expected, not {other:?}"),
        }
    }

    #[test]
    fn only_what_changes_is_sent() {
        let change = Change { attempts: Some(3), lease: Some(None), ..Change::at(NOW) };
        let expected = doc! {
            "$inc": { "idleHints": 1_i64, "revision": 1_i64 },
            "$set": { "updatedAt": NOW.as_millis(), "attempts": 3_i64 },
            "$unset": { "lease": "" },
        };
        assert_eq!(document(&change), expected);
    }

    #[test]
    fn texts_in_a_pipeline_are_no_expressions() {
        let change = Change {
            queue: Some(Some(Queue("$revision".into()))),
            inbox_drop: 1,
            inbox_push: vec![Sealed(vec![1])],
            ..Change::at(NOW)
        };
        let UpdateModifications::Pipeline(stages) = Edit::of(&change, None).unwrap().into_update()
        else {
            panic!("a pipeline was expected");
        };
        let set = stages[0].get_document("$set").unwrap();
        assert_eq!(set.get_document("queue").unwrap(), &doc! { "$literal": "$revision" });
        assert_eq!(stages[1], doc! { "$unset": ["purgeAt"] });
    }

    #[test]
    fn the_server_may_purge_what_surely_ended_and_nothing_else() {
        let ended = || Change {
            status: Some(RunStatus::Completed),
            queue: Some(Some(Queue::purge())),
            due_at: Some(Some(NOW)),
            ..Change::at(NOW)
        };
        let dated = |change: &Change| {
            document(change).get_document("$set").unwrap().contains_key("purgeAt")
        };
        let undated = |change: &Change| {
            let update = document(change);
            update.get_document("$unset").is_ok_and(|unset| unset.contains_key("purgeAt"))
        };
        assert!(dated(&ended()));
        for change in [
            Change { status: None, ..ended() },
            Change { status: Some(RunStatus::Waiting), ..ended() },
            Change { queue: None, ..ended() },
            Change { queue: Some(None), ..ended() },
            Change { queue: Some(Some(Queue::documents())), ..ended() },
            Change { due_at: None, ..ended() },
            Change { due_at: Some(None), ..ended() },
            Change { due_at: Some(Some(Timestamp::from_millis(i64::MAX))), ..ended() },
        ] {
            assert!(undated(&change), "{change:?}");
        }
        let unconcerned = Change { attempts: Some(1), ..Change::at(NOW) };
        assert!(!dated(&unconcerned) && !undated(&unconcerned));
    }
}
