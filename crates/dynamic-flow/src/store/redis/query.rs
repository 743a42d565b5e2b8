//! Pages of queries: the criterion that the fewest runs meet leads. The index gives candidates,
//! partition by partition; the record itself decides.

use std::{cmp::Reverse, collections::BTreeMap};

use futures::future::try_join_all;
use redis::{Cmd, Value, cmd};

use super::{
    Shared, entry, reply, rows,
    script::{CLEAN, WINDOW},
    servers::Effect,
    trouble::Trouble,
};
use crate::{
    clock::Timestamp,
    engine::RunStatus,
    id::RunId,
    store::{Cursor, Filter, Listed, Page, Record, Unreadable, id_of},
};

/// How many entries are asked of a partition at a time, at the least and at the most.
const CHUNK: std::ops::RangeInclusive<usize> = 16..=1000;
/// How many candidates are looked at together at the most.
const MOST: usize = 4096;

/// A criterion that an index entry tells: what the entry begins with, of which one must be there.
type Criterion = Vec<Vec<u8>>;

/// What is asked for, as the index knows it.
struct Plan {
    criteria: Vec<Criterion>,
    /// The first and the last deadline, if they matter.
    deadlines: Option<(Timestamp, Timestamp)>,
    /// The first id, and the first that is too late.
    ids: (Bound, Bound),
}

/// An id of a run, or what sorts after all of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Bound {
    Id(RunId),
    Beyond,
}

/// What leads: its entries give the candidates.
enum Lead {
    Criterion(Criterion),
    Deadlines(Timestamp, Timestamp),
}

/// Lists a page.
pub(super) async fn query(
    shared: &Shared,
    filter: &Filter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page, Trouble> {
    let plan = Plan::of(filter, after);
    // One more than asked for tells whether there is a next page.
    let wanted = limit.saturating_add(1);
    let ids = plan.ids;
    let (lead, others) = plan.leading(shared, wanted).await?;
    let mut streams = Streams::new(shared, lead, ids);
    let mut found: Vec<Listed> = Vec::new();
    // The fewer match, the more are looked at in one go.
    let mut effort: usize = 1;
    while found.len() < wanted {
        let most = (wanted - found.len()).saturating_mul(effort).min(MOST);
        let chunk = 2 * most.div_ceil(shared.keys.partitions.len());
        let candidates = streams.next(chunk.clamp(*CHUNK.start(), *CHUNK.end()), most).await?;
        if candidates.is_empty() {
            break;
        }
        let candidates = meeting(shared, candidates, &others).await?;
        found.extend(matching(shared, filter, candidates).await?);
        effort = effort.saturating_mul(2);
    }
    Ok(Page::of(found.into_iter(), limit))
}

impl Plan {
    fn of(filter: &Filter, after: Option<Cursor>) -> Self {
        let all = RunStatus::ALL.into();
        let statuses = if filter.status.is_empty() { &all } else { &filter.status };
        let mut criteria: Vec<Criterion> = Vec::new();
        if let Some(flow) = &filter.flow_id {
            let of = |status: &RunStatus| entry::of_flow(flow.as_str(), *status);
            criteria.push(statuses.iter().map(of).collect());
        } else if !filter.status.is_empty() {
            criteria.push(statuses.iter().map(|status| entry::of_status(*status)).collect());
        }
        if let Some(tool) = &filter.tool_id {
            criteria.push(vec![entry::of_tool(tool.as_str())]);
        }
        let metadata = filter.metadata.iter();
        criteria.extend(metadata.map(|(name, value)| vec![entry::of_metadata(name, value)]));
        let concerns_deadlines = filter.expires_after.is_some() || filter.expires_before.is_some();
        let deadlines = concerns_deadlines.then(|| deadlines(filter));
        if concerns_deadlines {
            criteria.push(vec![entry::of_any_deadline()]);
        }
        if criteria.is_empty() {
            // Every run has some status.
            criteria.push(RunStatus::ALL.map(entry::of_status).into());
        }
        Self { criteria, deadlines, ids: ids(filter, after) }
    }

    /// Chooses what leads, and gives the criteria that are left to be looked at.
    async fn leading(
        mut self,
        shared: &Shared,
        wanted: usize,
    ) -> Result<(Lead, Vec<Criterion>), Trouble> {
        if self.criteria.len() == 1 && self.deadlines.is_none() {
            return Ok((Lead::Criterion(self.criteria.remove(0)), self.criteria));
        }
        let counts = self.counts(shared).await?;
        let (place, fewest) = counts[..self.criteria.len()]
            .iter()
            .enumerate()
            .min_by_key(|(_, count)| **count)
            .map_or((0, 0), |(place, count)| (place, *count));
        if let (Some((first, last)), Some(ending)) =
            (self.deadlines, counts.get(self.criteria.len()))
        {
            // Deadlines stand in another order than pages: all that end in time are looked at.
            // Otherwise about one in so many has such a deadline, and the page is full early.
            let passed = u64::try_from(wanted).unwrap_or(u64::MAX).saturating_mul(fewest);
            if *ending <= (passed / (*ending).max(1)).min(fewest) {
                return Ok((Lead::Deadlines(first, last), self.criteria));
            }
        }
        let lead = self.criteria.swap_remove(place);
        Ok((Lead::Criterion(lead), self.criteria))
    }

    /// How many entries each criterion has, and the deadlines if they matter.
    async fn counts(&self, shared: &Shared) -> Result<Vec<u64>, Trouble> {
        let counts = shared.keys.partitions.iter().map(|partition| async {
            let mut calls = Vec::new();
            for beginning in self.criteria.iter().flatten() {
                let (last, first) = range(beginning, self.ids);
                calls.push(count(&partition.index, first, last));
            }
            if let Some((first, last)) = self.deadlines {
                let (first, last) = deadline_range(first, last);
                calls.push(count(&partition.index, first, last));
            }
            let replies = shared.servers.send(Effect::Read, partition.slot, &calls).await?;
            let counts =
                replies.iter().map(|reply| Ok(u64::try_from(reply::int(reply)?).unwrap_or(0)));
            counts.collect::<Result<Vec<_>, Trouble>>()
        });
        let mut sums = vec![0; self.criteria.len() + usize::from(self.deadlines.is_some())];
        for counts in try_join_all(counts).await? {
            let mut counts = counts.into_iter();
            for (sum, criterion) in sums.iter_mut().zip(&self.criteria) {
                *sum += counts.by_ref().take(criterion.len()).sum::<u64>();
            }
            if let Some(ending) = counts.next() {
                sums[self.criteria.len()] += ending;
            }
        }
        Ok(sums)
    }
}

fn count(index: &str, first: Vec<u8>, last: Vec<u8>) -> Cmd {
    let mut count = cmd("ZLEXCOUNT");
    count.arg(index).arg(first).arg(last);
    count
}

/// The candidates of all partitions, newest first.
struct Streams<'a> {
    shared: &'a Shared,
    lead: Lead,
    first: Bound,
    partitions: Vec<Stream>,
}

/// The candidates of one partition.
struct Stream {
    /// Newest last.
    read: Vec<Candidate>,
    /// Those before this one were not read yet.
    before: Bound,
    /// Whether all were read.
    ended: bool,
}

/// A run that may match, and the entry by which it was found.
struct Candidate {
    id: RunId,
    entry: Vec<u8>,
}

impl<'a> Streams<'a> {
    fn new(shared: &'a Shared, lead: Lead, (first, before): (Bound, Bound)) -> Self {
        let stream = |_| Stream { read: Vec::new(), before, ended: first >= before };
        let partitions = shared.keys.partitions.iter().map(stream).collect();
        Self { shared, lead, first, partitions }
    }

    /// So many more candidates at the most, newest first; none if there are no more.
    async fn next(&mut self, chunk: usize, most: usize) -> Result<Vec<Candidate>, Trouble> {
        let Self { shared, lead, first, partitions } = self;
        // An empty window need not be the last one: all candidates may be gone meanwhile.
        while partitions.iter().any(|stream| stream.read.is_empty() && !stream.ended) {
            let empty = partitions
                .iter_mut()
                .enumerate()
                .filter(|(_, stream)| stream.read.is_empty() && !stream.ended);
            let (shared, lead, first) = (&**shared, &*lead, *first);
            try_join_all(empty.map(|(n, stream)| stream.refill(shared, n, lead, first, chunk)))
                .await?;
        }
        let mut next: Vec<Candidate> = Vec::new();
        while next.len() < most {
            let newest = partitions.iter_mut().max_by_key(|it| it.read.last().map(|last| last.id));
            let Some(stream) = newest else { break };
            let Some(candidate) = stream.read.pop() else { break };
            let goes_on = !stream.read.is_empty() || stream.ended;
            next.push(candidate);
            if !goes_on {
                // What comes next there may be newer than what comes next elsewhere.
                break;
            }
        }
        Ok(next)
    }
}

impl Stream {
    /// Reads on, some entries of each beginning at a time.
    async fn refill(
        &mut self,
        shared: &Shared,
        partition: usize,
        lead: &Lead,
        first: Bound,
        chunk: usize,
    ) -> Result<(), Trouble> {
        let partition = &shared.keys.partitions[partition];
        let windows = match lead {
            Lead::Deadlines(from, to) => {
                let (from, to) = deadline_range(*from, *to);
                let mut read = cmd("ZRANGEBYLEX");
                read.arg(&partition.index).arg(from).arg(to);
                self.ended = true;
                vec![shared.servers.one(Effect::Read, partition.slot, read).await?]
            }
            Lead::Criterion(beginnings) => {
                let ranges = beginnings.iter().map(|it| range(it, (first, self.before)));
                let size = rows::digits(chunk);
                let mut arguments = vec![size.as_slice()];
                let ranges: Vec<_> = ranges.collect();
                arguments.extend(ranges.iter().flat_map(|(last, first)| [&**last, &**first]));
                let keys = [partition.index.as_str()];
                if let ([(last, first)], servers) = (&*ranges, &shared.servers) {
                    let mut read = cmd("ZREVRANGEBYLEX");
                    read.arg(keys[0]).arg(last).arg(first).arg("LIMIT").arg(0).arg(chunk);
                    vec![servers.one(Effect::Read, partition.slot, read).await?]
                } else {
                    let read = WINDOW.run(
                        &shared.servers,
                        Effect::Read,
                        partition.slot,
                        &keys,
                        &arguments,
                    );
                    reply::list(read.await?)?
                }
            }
        };
        let mut found = BTreeMap::new();
        // Of a range that goes on, nothing is known before the last entry that was read. What
        // others have there is read again together with it, at one moment.
        let mut floor = first;
        for window in windows {
            let entries = reply::all_bytes(window)?;
            if matches!(lead, Lead::Criterion(_)) && entries.len() == chunk {
                let last = entries.last().and_then(|last| entry::id_of(last));
                floor = floor.max(Bound::Id(last.ok_or(Trouble::Damaged("index"))?));
            }
            for entry in entries {
                let id = entry::id_of(&entry).ok_or(Trouble::Damaged("index"))?;
                found.insert(id, entry);
            }
        }
        let within = |id: RunId| Bound::Id(id) >= floor && Bound::Id(id) < self.before;
        let found = found.into_iter().filter(|(id, _)| within(*id));
        self.read = found.map(|(id, entry)| Candidate { id, entry }).collect();
        self.before = floor;
        self.ended |= floor == first;
        Ok(())
    }
}

/// Leaves out the candidates that lack an entry of one of the criteria.
async fn meeting(
    shared: &Shared,
    candidates: Vec<Candidate>,
    criteria: &[Criterion],
) -> Result<Vec<Candidate>, Trouble> {
    if criteria.is_empty() {
        return Ok(candidates);
    }
    let groups = by_partition(shared, candidates).into_iter().map(|(n, group)| async move {
        let partition = &shared.keys.partitions[n];
        let beginnings: Vec<_> = criteria.iter().flatten().collect();
        let mut scores = cmd("ZMSCORE");
        scores.arg(&partition.index);
        for candidate in &group {
            for beginning in &beginnings {
                scores.arg([&***beginning, candidate.id.as_bytes()].concat());
            }
        }
        let scores = shared.servers.one(Effect::Read, partition.slot, scores).await?;
        let scores = reply::list(scores)?;
        if scores.len() != group.len() * beginnings.len() {
            return Err(Trouble::Confused);
        }
        let meets = |scores: &[Value]| {
            let mut scores = scores.iter();
            criteria.iter().all(|criterion| {
                let of_this = scores.by_ref().take(criterion.len());
                of_this.filter(|score| **score != Value::Nil).count() > 0
            })
        };
        let rows = group.into_iter().zip(scores.chunks(beginnings.len()));
        Ok(rows.filter(|(_, scores)| meets(scores)).map(|(it, _)| it).collect::<Vec<_>>())
    });
    let mut left: Vec<_> = try_join_all(groups).await?.into_iter().flatten().collect();
    left.sort_by_key(|candidate| Reverse(candidate.id));
    Ok(left)
}

/// Reads the candidates' records, and gives those that match, or do not read back. Entries of records that Redis has
/// removed after their time are removed too.
async fn matching(
    shared: &Shared,
    filter: &Filter,
    candidates: Vec<Candidate>,
) -> Result<Vec<Listed>, Trouble> {
    let groups = by_partition(shared, candidates).into_iter().map(|(n, group)| async move {
        let partition = &shared.keys.partitions[n];
        let keys: Vec<_> = group.iter().map(|it| partition.record(it.id)).collect();
        let calls: Vec<_> = keys.iter().map(|key| rows::ask_for_header(key)).collect();
        let headers = headers(shared, partition.slot, &group, &calls).await?;
        let mut found = Vec::new();
        let mut gone = (vec![partition.index.as_str()], Vec::new());
        for ((candidate, key), header) in group.iter().zip(&keys).zip(headers) {
            match header {
                Ok(Some(header)) if filter.matches(&header.0) => {
                    found.push(Ok(rows::summary(header)));
                }
                Ok(Some(_)) => {}
                Err(trouble) => {
                    let location = shared.servers.config().location();
                    let place = format!("the key {key} at {location}");
                    found.push(Err(Unreadable::new(candidate.id, place, trouble)));
                }
                Ok(None) => {
                    gone.0.push(key);
                    gone.1.push(candidate.entry.as_slice());
                }
            }
        }
        if !gone.1.is_empty() {
            let (keys, entries) = gone;
            let clean = CLEAN.run(&shared.servers, Effect::Read, partition.slot, &keys, &entries);
            // Whoever may only read leaves it to others.
            if let Err(trouble) = clean.await {
                tracing::debug!(%trouble, "index entries without a record were left where they are");
            }
        }
        Ok::<_, Trouble>(found)
    });
    let mut found: Vec<_> = try_join_all(groups).await?.into_iter().flatten().collect();
    found.sort_by_key(|listed| Reverse(id_of(listed)));
    Ok(found)
}

/// What was read of a record: none if it is not there, and what is wrong with it if it does not
/// read back.
type Header = Result<Option<(Record, usize)>, Trouble>;

/// Reads the candidates' records without their sealed parts. One that does not read back must not
/// hide all the others.
async fn headers(
    shared: &Shared,
    slot: u16,
    candidates: &[Candidate],
    calls: &[Cmd],
) -> Result<Vec<Header>, Trouble> {
    let read = |candidate: &Candidate, reply| match rows::header(candidate.id, reply) {
        Err(trouble) if trouble.is_of_one_record() => Ok(Err(trouble)),
        header => header.map(Ok),
    };
    match shared.servers.send(Effect::Read, slot, calls).await {
        // Which of them it is, the server does not say.
        Err(trouble) if trouble.is_of_one_record() => {}
        replies => {
            return candidates.iter().zip(replies?).map(|(it, reply)| read(it, reply)).collect();
        }
    }
    let mut headers = Vec::with_capacity(calls.len());
    for (candidate, call) in candidates.iter().zip(calls) {
        match shared.servers.send(Effect::Read, slot, std::slice::from_ref(call)).await {
            Err(trouble) if trouble.is_of_one_record() => headers.push(Err(trouble)),
            replies => headers.push(read(candidate, replies?.pop().ok_or(Trouble::Confused)?)?),
        }
    }
    Ok(headers)
}

fn by_partition(shared: &Shared, candidates: Vec<Candidate>) -> BTreeMap<usize, Vec<Candidate>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for candidate in candidates {
        groups.entry(shared.keys.of(candidate.id)).or_default().push(candidate);
    }
    groups
}

/// The last and the first entry of a beginning with such ids, as Redis writes ranges.
fn range(beginning: &[u8], (first, before): (Bound, Bound)) -> (Vec<u8>, Vec<u8>) {
    let edge = |sign: &[u8], bound| match bound {
        Bound::Id(id) => [sign, beginning, id.as_bytes()].concat(),
        // Longer than any id, and so after all of them.
        Bound::Beyond => [sign, beginning, &[0xff; 17]].concat(),
    };
    (edge(b"(", before), edge(b"[", first))
}

/// The first and the last entry of such deadlines.
fn deadline_range(first: Timestamp, last: Timestamp) -> (Vec<u8>, Vec<u8>) {
    let first = [&b"["[..], &entry::of_deadline(first)].concat();
    (first, [&b"["[..], &entry::of_deadline(last), &[0xff; 17]].concat())
}

/// The first and the last deadline that match.
fn deadlines(filter: &Filter) -> (Timestamp, Timestamp) {
    let time = Timestamp::from_millis;
    let from = filter.expires_after.unwrap_or(time(i64::MIN));
    match filter.expires_before.map(Timestamp::as_millis) {
        // Nothing is before the first of all times.
        Some(i64::MIN) => (time(i64::MAX), time(i64::MIN)),
        Some(before) => (from, time(before - 1)),
        None => (from, time(i64::MAX)),
    }
}

/// The first id that was created in time and the first that is too late, before the cursor.
fn ids(filter: &Filter, after: Option<Cursor>) -> (Bound, Bound) {
    let floor = |at: Timestamp| match RunId::floor(at) {
        id if id.created_at() < at => Bound::Beyond,
        id => Bound::Id(id),
    };
    let first = filter.created_after.map_or(Bound::Id(RunId::from_bytes([0; 16])), floor);
    let before_time = filter.created_before.map_or(Bound::Beyond, floor);
    let before_cursor = after.map_or(Bound::Beyond, |Cursor(id)| Bound::Id(id));
    (first, before_time.min(before_cursor))
}
