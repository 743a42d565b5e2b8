//! Pages of runs: names are listed, and only the records that may match are read.

use std::cmp::Reverse;

use super::{
    disk::{self, At as _},
    folder::Folder,
    layout::{Name, Wanted, bucket_name, bucket_of, parse_bucket, parse_name},
};
use crate::{
    Result,
    clock::Timestamp,
    id::RunId,
    store::{Cursor, Filter, Page, Summary},
};

/// Something in a folder of records.
struct Found {
    id: RunId,
    what: What,
}

enum What {
    Record,
    /// A hint that the record matches, by its name.
    Match(Box<str>),
    /// A hint that it does not.
    NoMatch,
}

impl Folder {
    pub(super) fn query(
        &self,
        filter: &Filter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page> {
        let wanted = Wanted::new(filter);
        let range = Range::new(filter, after);
        let mut items = Vec::new();
        for bucket in self.buckets(&range)? {
            let found = self.found(bucket, &range, &wanted)?;
            for of_one_run in found.chunk_by(|a, b| a.id == b.id) {
                let Some(summary) = self.candidate(filter, of_one_run)? else { continue };
                if items.len() == limit {
                    let next = items.last().map(|last: &Summary| Cursor(last.id));
                    return Ok(Page { items, next });
                }
                items.push(summary);
            }
        }
        Ok(Page { items, next: None })
    }

    /// The buckets in which there may be something, newest first.
    fn buckets(&self, range: &Range) -> Result<Vec<u32>> {
        let runs = self.layout.runs();
        self.check_present()?;
        let mut buckets = Vec::new();
        let each = |name: &str| buckets.extend(parse_bucket(name).filter(|b| range.touches(*b)));
        disk::names(&runs, each).at("list records", &runs)?;
        buckets.sort_unstable_by_key(|bucket| Reverse(*bucket));
        Ok(buckets)
    }

    /// What there is in a bucket, newest run first.
    fn found(&self, bucket: u32, range: &Range, wanted: &Wanted) -> Result<Vec<Found>> {
        let folder = self.layout.runs().join(format!("{bucket:06x}"));
        let mut found = Vec::new();
        let each = |name: &str| {
            let Some((id, kind)) = parse_name(name).filter(|(id, _)| range.contains(*id)) else {
                return;
            };
            let what = match kind {
                Name::Lease => return,
                Name::Record => What::Record,
                Name::Columns(hint) if wanted.may_match(&hint) => What::Match(name.into()),
                Name::Columns(_) => What::NoMatch,
            };
            found.push(Found { id, what });
        };
        disk::names(&folder, each).at("list records", &folder)?;
        found.sort_unstable_by_key(|found| Reverse(found.id));
        Ok(found)
    }

    /// The run, if it matches.
    ///
    /// It is passed over only if there are hints and all say that it does not match. One who
    /// lists a folder while names in it change may miss some of them, but not the record and its
    /// hint both, and while a record changes the hints of before and after are there.
    fn candidate(&self, filter: &Filter, found: &[Found]) -> Result<Option<Summary>> {
        let id = found[0].id;
        let has_hints = found.iter().any(|found| !matches!(found.what, What::Record));
        let may_match = found.iter().any(|found| matches!(found.what, What::Match(_)));
        if has_hints && !may_match {
            return Ok(None);
        }
        let stored = self.load(id)?;
        let right = stored.as_ref().map(|stored| self.layout.columns_hint(&stored.record));
        let right = right.as_deref().and_then(|path| path.file_name()).and_then(|n| n.to_str());
        let wrong = |found: &Found| match &found.what {
            What::Match(name) => Some(&**name) != right,
            _ => false,
        };
        if !has_hints || found.iter().any(wrong) {
            self.mend(id, found)?;
        }
        let summary = stored.map(|stored| stored.record).filter(|record| filter.matches(record));
        Ok(summary.as_ref().map(Summary::from))
    }

    /// Removes hints that are not right, and makes those that are missing.
    fn mend(&self, id: RunId, found: &[Found]) -> Result<()> {
        let Some(lock) = self.try_lock(id)? else { return Ok(()) };
        let folder = self.layout.runs().join(bucket_name(id));
        let mended = self.heal(&lock, id).and_then(|_| {
            found.iter().try_for_each(|found| match &found.what {
                What::Match(name) => self.drop_columns_hint(&lock, id, &folder.join(&**name)),
                _ => Ok(()),
            })
        });
        // Who may read the folder but not write it gets an answer all the same.
        if let Err(error) = mended {
            tracing::debug!(%error, "a hint of the index can't be mended");
        }
        Ok(())
    }
}

/// Which ids a query is about.
struct Range {
    before: Option<RunId>,
    created_after: Option<Timestamp>,
    created_before: Option<Timestamp>,
}

impl Range {
    fn new(filter: &Filter, after: Option<Cursor>) -> Self {
        Self {
            before: after.map(|cursor| cursor.0),
            created_after: filter.created_after,
            created_before: filter.created_before,
        }
    }

    fn contains(&self, id: RunId) -> bool {
        let created = id.created_at();
        self.before.is_none_or(|before| id < before)
            && self.created_after.is_none_or(|at| created >= at)
            && self.created_before.is_none_or(|at| created < at)
    }

    fn touches(&self, bucket: u32) -> bool {
        let of_time = |at: Timestamp| bucket_of(RunId::floor(at));
        self.before.is_none_or(|before| bucket <= bucket_of(before))
            && self.created_after.is_none_or(|at| bucket >= of_time(at))
            && self.created_before.is_none_or(|at| bucket <= of_time(at))
    }
}
