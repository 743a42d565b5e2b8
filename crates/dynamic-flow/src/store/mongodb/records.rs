//! Calls that are about one record.

use mongodb::{
    bson::{Document, RawDocumentBuf, doc},
    error::{Error as DriverError, ErrorKind as Driver, WriteFailure},
    options::ReturnDocument,
};

use super::{
    connection::Connection,
    document::{below_end, counter, decode, encode, id, natural},
    edit::Edit,
    trouble::Trouble,
};
use crate::{
    clock::Timestamp,
    codec::Sealed,
    id::{Epoch, Revision, RunId},
    store::{Change, Expect, Record},
};

impl Connection {
    pub(super) async fn insert(&self, record: &Record) -> Result<(), Trouble> {
        let document = self.document(record)?;
        let (size, limit) = (document.as_bytes().len(), self.server.document);
        if size > limit {
            return Err(Trouble::TooLarge { size, limit });
        }
        match self.records.insert_one(document).await {
            Ok(_) => Ok(()),
            Err(error) if is_known_id(&error) => Err(Trouble::Exists),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn get(&self, run: RunId) -> Result<Option<Record>, Trouble> {
        let found = self
            .records
            .find_one(doc! { "_id": id(run) })
            .read_concern(self.newest.clone())
            .max_time(self.timeout)
            .await?;
        found.map(|document| decode(&document)).transpose()
    }

    pub(super) async fn update(
        &self,
        run: RunId,
        expect: Expect,
        change: &Change,
    ) -> Result<Revision, Trouble> {
        let limit = self.server.document;
        let least = sealed(change).map(|sealed| sealed.0.len()).sum::<usize>();
        // A command that large would not even be read.
        let written = if least > limit {
            Err(Trouble::TooLarge { size: least, limit })
        } else {
            self.write(run, expect, change).await
        };
        match written {
            // How large the record would have become, the server does not say.
            Err(trouble) if trouble.is_too_large() => {
                let size = self.size_after(run, change).await?.max(least);
                Err(Trouble::TooLarge { size, limit })
            }
            other => other,
        }
    }

    async fn write(
        &self,
        run: RunId,
        expect: Expect,
        change: &Change,
    ) -> Result<Revision, Trouble> {
        let mut filter = expected(run, expect)?;
        let update = Edit::of(change, self.purge_margin)?.into_update();
        if let Expect::Revision(revision) = expect {
            let next = revision.next();
            counter(next.0)?;
            let updated = self.records.update_one(filter, update).await?;
            return if updated.matched_count == 1 { Ok(next) } else { Err(Trouble::Conflict) };
        }
        filter.insert("revision", below_end());
        let updated = self
            .records
            .find_one_and_update(filter, update)
            .projection(doc! { "_id": 0, "revision": 1 })
            .return_document(ReturnDocument::After)
            .await?;
        Ok(Revision(natural(&updated.ok_or(Trouble::Conflict)?, "revision")?))
    }

    pub(super) async fn delete(&self, run: RunId, expect: Expect) -> Result<(), Trouble> {
        let deleted = self.records.delete_one(expected(run, expect)?).await?;
        if deleted.deleted_count == 1 { Ok(()) } else { Err(Trouble::Conflict) }
    }

    pub(super) async fn renew(
        &self,
        run: RunId,
        epoch: Epoch,
        until: Timestamp,
    ) -> Result<(), Trouble> {
        // No record has an epoch that no field can hold.
        let epoch = counter(epoch.0).map_err(|_| Trouble::Conflict)?;
        let held = doc! { "_id": id(run), "epoch": epoch, "lease": { "$exists": true } };
        let until = until.as_millis();
        let moved = doc! {
            "$set": { "lease.until": until, "dueAt": until },
            // Whether the run has ended is not known here: rather no date than one too early.
            "$unset": { "purgeAt": "" },
        };
        let renewed = self.records.update_one(held, moved).await?;
        if renewed.matched_count == 1 { Ok(()) } else { Err(Trouble::Conflict) }
    }

    fn document(&self, record: &Record) -> Result<RawDocumentBuf, Trouble> {
        Ok(RawDocumentBuf::try_from(&encode(record, self.purge_margin)?)?)
    }

    /// How large a record would be after a change.
    async fn size_after(&self, run: RunId, change: &Change) -> Result<usize, Trouble> {
        let Some(mut record) = self.get(run).await? else { return Err(Trouble::Conflict) };
        change.clone().apply(&mut record);
        Ok(self.document(&record)?.as_bytes().len())
    }
}

/// The record that a conditional write is about.
fn expected(run: RunId, expect: Expect) -> Result<Document, Trouble> {
    let mut filter = doc! { "_id": id(run) };
    if let Expect::Revision(revision) = expect {
        // No record has a revision that no field can hold.
        filter.insert("revision", counter(revision.0).map_err(|_| Trouble::Conflict)?);
    }
    Ok(filter)
}

/// What a change brings that may be large.
fn sealed(change: &Change) -> impl Iterator<Item = &Sealed> {
    let whole = change.inbox.iter().flatten();
    change.snapshot.iter().chain(&change.inbox_push).chain(whole)
}

/// Whether an insert was refused for its `_id`, and not for a unique index of other making.
fn is_known_id(error: &DriverError) -> bool {
    let Driver::Write(WriteFailure::WriteError(refusal)) = &*error.kind else { return false };
    if refusal.code != 11000 {
        return false;
    }
    let pattern = error.server_response().and_then(|response| {
        let first = response.get_array("writeErrors").ok()?.get_document(0).ok()?;
        Some(first.get_document("keyPattern").ok()?.get("_id").ok()?.is_some())
    });
    // A server that does not name the fields names the index.
    pattern.unwrap_or_else(|| refusal.message.contains(" index: _id_ "))
}
