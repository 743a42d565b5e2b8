//! Pages of runs: names are listed, and only the records that may match are read.

use std::{cmp::Reverse, collections::BTreeSet};

use super::{
    disk::{self, At as _},
    folder::Folder,
    layout::{Name, Wanted, bucket_name, bucket_of, parse_bucket, parse_name},
    lock::is_kept,
};
use crate::{
    Error, Result,
    clock::Timestamp,
    id::RunId,
    store::{Cursor, Filter, Listed, Page, Summary, Unreadable, id_of},
};

/// Something in a folder of records: small, for there may be very many.
struct Found {
    id: RunId,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Record,
    /// A mark that there is a run.
    Mark,
    /// A hint that the record matches.
    Match,
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
        let mut next = None;
        for bucket in self.buckets(&range)? {
            let found = self.found(bucket, &range, &wanted)?;
            let mut suspects = BTreeSet::new();
            for of_one_run in found.chunk_by(|a, b| a.id == b.id) {
                let Some(listed) = self.candidate(filter, of_one_run, &mut suspects)? else {
                    continue;
                };
                if items.len() == limit {
                    next = items.last().map(|last| Cursor(id_of(last)));
                    break;
                }
                items.push(listed);
            }
            self.mend(bucket, &suspects);
            if next.is_some() {
                break;
            }
        }
        Ok(Page { items, next })
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
        let folder = self.layout.runs().join(bucket_name(bucket));
        let mut found = Vec::new();
        let each = |name: &str| {
            let Some((id, kind)) = parse_name(name).filter(|(id, _)| range.contains(*id)) else {
                return;
            };
            let what = match kind {
                Name::Lease => return,
                Name::Record => What::Record,
                Name::Mark => What::Mark,
                Name::Columns(hint) if wanted.may_match(&hint) => What::Match,
                Name::Columns(_) => What::NoMatch,
            };
            found.push(Found { id, what });
        };
        disk::names(&folder, each).at("list records", &folder)?;
        found.sort_unstable_by_key(|found| Reverse(found.id));
        Ok(found)
    }

    /// The run, if it matches, or may match and does not read back.
    ///
    /// It is passed over only if there is one hint, and that says that it does not match. One who
    /// lists a folder while names in it change may miss all hints, but not the mark, or the record
    /// where there are no marks, and while a record changes the hints of before and after are there. Of several hints only
    /// one is right: the record tells.
    fn candidate(
        &self,
        filter: &Filter,
        found: &[Found],
        suspects: &mut BTreeSet<RunId>,
    ) -> Result<Option<Listed>> {
        let id = found[0].id;
        let count = |what| found.iter().filter(|found| found.what == what).count();
        let (matches, others) = (count(What::Match), count(What::NoMatch));
        if matches == 0 && others == 1 {
            return Ok(None);
        }
        let record = match self.load(id) {
            Ok(stored) => stored.map(|stored| stored.record),
            Err(error) => return self.unreadable(id, error).map(Some),
        };
        let record = record.filter(|record| filter.matches(record));
        // A filter on metadata is not in the hints: they may be right without the record matching.
        let is_plain = filter.metadata.is_empty();
        let is_marked = count(What::Mark) > 0;
        let is_odd = matches + others != 1
            || is_marked != self.layout.has_marks()
            || (record.is_none() && is_plain);
        // Whoever writes it at this moment is a good reason to look odd.
        if is_odd && self.try_lock(id).is_ok_and(|lock| lock.is_some()) {
            suspects.insert(id);
        }
        Ok(record.as_ref().map(|record| Ok(Summary::from(record))))
    }

    /// One record that is damaged, or that can't be read, must not hide all the others.
    fn unreadable(&self, id: RunId, error: Error) -> Result<Listed> {
        // What passes by itself, such as too many open files, is no matter of that record; that
        // somebody keeps its lock is.
        if error.is_retryable() && !is_kept(&error) {
            return Err(error);
        }
        self.check_present()?;
        let place = self.layout.record(id).display().to_string();
        Ok(Err(Unreadable { id, place, reason: error.message().to_owned() }))
    }

    /// Removes hints and marks of those runs that are not right, and makes those that are missing.
    fn mend(&self, bucket: u32, suspects: &BTreeSet<RunId>) {
        if suspects.is_empty() {
            return;
        }
        let folder = self.layout.runs().join(bucket_name(bucket));
        let mut hints = Vec::new();
        let listed = disk::names(&folder, |name| {
            if let Some((id, Name::Columns(_) | Name::Mark)) = parse_name(name)
                && suspects.contains(&id)
            {
                hints.push((id, folder.join(name)));
            }
        });
        let mended = listed.at("list records", &folder).and_then(|()| {
            for id in suspects {
                let Some(lock) = self.try_lock(*id)? else { continue };
                self.heal(&lock, *id)?;
                for (_, hint) in hints.iter().filter(|(of, _)| of == id) {
                    self.drop_hint(&lock, *id, hint)?;
                }
            }
            Ok(())
        });
        // Who may read the folder but not write it gets an answer all the same.
        if let Err(error) = mended {
            tracing::debug!(%error, "hints of the index can't be mended");
        }
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        engine::RunStatus,
        store::{
            Change, Expect,
            file::folder::tests::{folder_in, record},
        },
    };

    /// A folder of that many records, where it can be in memory: there, as on other file systems
    /// than that of most disks, a file that changes its name comes behind all others.
    fn folder_of(records: u16) -> (tempfile::TempDir, Folder, Vec<RunId>) {
        let memory = tempfile::tempdir_in("/dev/shm");
        let root = memory.or_else(|_| tempfile::tempdir()).unwrap();
        let folder = folder_in(&root);
        folder.layout.set_marks(true);
        let ids = fill(&folder, records);
        (root, folder, ids)
    }

    fn fill(folder: &Folder, records: u16) -> Vec<RunId> {
        folder.provision().unwrap();
        let ids = (0..records).map(|n| {
            let [a, b] = n.to_be_bytes();
            let id = RunId::from_bytes([[9; 14].as_slice(), &[a, b]].concat().try_into().unwrap());
            folder.insert(&crate::store::Record { id, ..record() }).unwrap();
            id
        });
        ids.collect()
    }

    fn all(folder: &Folder, ids: &[RunId]) -> Vec<Found> {
        let (range, wanted) =
            (Range::new(&Filter::default(), None), Wanted::new(&Filter::default()));
        folder.found(bucket_of(ids[0]), &range, &wanted).unwrap()
    }

    #[test]
    fn who_lists_a_folder_sees_something_of_each_run_that_changes_meanwhile() {
        for root in [tempfile::tempdir(), tempfile::tempdir_in("/dev/shm")] {
            let Ok(root) = root else { continue };
            let folder = folder_in(&root);
            let ids = fill(&folder, 1000);
            let mut seen = BTreeSet::new();
            let mut changed = false;
            disk::names(&folder.layout.bucket(ids[0]), |name| {
                if !changed {
                    changed = true;
                    // Not all: where every name is new, none is behind where the lister is.
                    for id in ids.iter().step_by(10) {
                        let change = Change {
                            status: Some(RunStatus::Ready),
                            ..Change::at(record().updated_at)
                        };
                        folder.update(*id, Expect::Any, change).unwrap();
                    }
                }
                // Hints come and go.
                let lasting = parse_name(name).filter(|it| !matches!(it.1, Name::Columns(_)));
                seen.extend(lasting.map(|(id, _)| id));
            })
            .unwrap();
            assert_eq!(seen.into_iter().collect::<Vec<_>>(), ids, "{}", root.path().display());
        }
    }

    #[test]
    fn a_run_of_which_nothing_but_its_mark_is_seen_is_looked_at() {
        let (_root, folder, ids) = folder_of(1);
        let mut found = all(&folder, &ids);
        found.retain(|found| found.what == What::Mark);
        assert_eq!(found.len(), 1);
        let look = |found: &[Found]| {
            folder.candidate(&Filter::default(), found, &mut BTreeSet::new()).unwrap()
        };
        assert_eq!(look(&found).unwrap().unwrap().id, ids[0]);
        folder.delete(ids[0], Expect::Any).unwrap();
        assert_eq!(look(&found), None);
    }

    #[test]
    fn a_mark_that_is_missing_is_made_and_one_of_no_run_is_removed() {
        let (_root, folder, ids) = folder_of(2);
        let marks = || all(&folder, &ids).iter().filter(|found| found.what == What::Mark).count();
        let list = || folder.query(&Filter::default(), None, 9).unwrap().items.len();
        // As earlier builds left it.
        fs::remove_file(folder.layout.mark(ids[0]).unwrap()).unwrap();
        assert_eq!((list(), marks()), (2, 2));
        let record = folder.layout.record(ids[1]);
        fs::remove_file(&record).unwrap();
        assert_eq!((list(), marks()), (1, 1));
        assert_eq!(all(&folder, &ids).len(), 3, "a record, its mark and its hint");
    }

    #[test]
    fn of_hints_that_disagree_the_wrong_one_goes_even_if_neither_matches() {
        let (_root, folder, ids) = folder_of(1);
        let right = folder.load(ids[0]).unwrap().unwrap().record;
        let mut wrong = right.clone();
        wrong.status = RunStatus::Failed;
        let wrong = folder.layout.columns_hint(&wrong);
        fs::write(&wrong, "").unwrap();
        let ready = Filter { status: [RunStatus::Ready].into(), ..Filter::default() };
        assert_eq!(folder.query(&ready, None, 9).unwrap().items.len(), 0);
        assert!(!wrong.exists());
        assert!(folder.layout.columns_hint(&right).exists());
    }
}
