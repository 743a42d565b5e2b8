//! Who gets which run: the partitions are looked at first, and then those runs are taken that have
//! been due for longest over all of them, and no others. What is at a server of a cluster that is
//! away has to wait; the rest has not.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use futures::future::join_all;
use redis::{Value, cmd};
use tokio::time::{Instant, timeout_at};

use super::{Shared, entry, reply, rows, script::CLAIM, servers::Effect, trouble::Trouble};
use crate::{
    clock::Timestamp,
    id::RunId,
    store::{
        Claim, Queue, Record,
        server::{TimedOut, readable},
    },
};

/// How many entries are asked of a queue in a partition at a time, at the most.
const CHUNK: usize = 500;
/// How many runs one script takes at the most, so that others get their turn.
const TAKEN: usize = 100;

/// A run that is due and free, and the entry that says so.
struct Candidate {
    due_at: Timestamp,
    id: RunId,
    entry: Vec<u8>,
}

/// Gives the claimer runs.
pub(super) async fn claim(shared: &Shared, claim: &Claim) -> Result<Vec<Record>, Trouble> {
    let mut streams = Streams::new(shared, claim);
    let mut given: Vec<(Timestamp, Record)> = Vec::new();
    let mut trouble = None;
    while given.len() < claim.limit {
        // What was given so far is the caller's, whatever happens to the rest.
        if !given.is_empty() && Instant::now() > streams.give_up {
            break;
        }
        let candidates = match streams.next(claim.limit - given.len()).await {
            Ok(candidates) if candidates.is_empty() => break,
            Ok(candidates) => candidates,
            Err(error) => {
                trouble = Some(error);
                break;
            }
        };
        let Taken { records, failed } = take(shared, claim, candidates).await;
        given.extend(records);
        for (partition, error) in failed {
            streams.end(partition);
            trouble = trouble.or(Some(error));
        }
    }
    match trouble {
        Some(trouble) if given.is_empty() => return Err(trouble),
        Some(trouble) => tracing::debug!(%trouble, "a claim gives fewer runs than it might"),
        None => {}
    }
    given.sort_by_key(|(due_at, _)| *due_at);
    Ok(given.into_iter().map(|(_, record)| record).collect())
}

/// The entries of the queues in all partitions, those due for longest first.
struct Streams<'a> {
    shared: &'a Shared,
    claim: &'a Claim,
    /// How many entries are asked for at a time.
    chunk: usize,
    streams: Vec<Stream>,
    /// The partitions that can't be read.
    unread: BTreeSet<usize>,
    /// When servers that do not answer are waited for no longer, so that there is time to take
    /// what others have; late enough that whoever is waited for is known to be frozen.
    give_up: Instant,
}

/// The entries of one queue in one partition.
struct Stream {
    partition: usize,
    /// What its entries begin with.
    beginning: Vec<u8>,
    /// Due for longest last.
    read: Vec<Candidate>,
    /// The entry up to which all were read.
    after: Option<Vec<u8>>,
    /// Whether all were read that are due.
    ended: bool,
}

impl<'a> Streams<'a> {
    fn new(shared: &'a Shared, claim: &'a Claim) -> Self {
        let queues: BTreeSet<&Queue> = claim.queues.iter().collect();
        let stream = |partition, queue: &Queue| Stream {
            partition,
            beginning: entry::of_queue(queue),
            read: Vec::new(),
            after: None,
            ended: false,
        };
        let partitions = 0..shared.keys.partitions.len();
        let streams = partitions.flat_map(|n| queues.iter().map(move |queue| stream(n, queue)));
        Self {
            shared,
            claim,
            chunk: claim.limit.min(CHUNK),
            streams: streams.collect(),
            unread: BTreeSet::new(),
            give_up: Instant::now() + reading(shared),
        }
    }

    /// Leaves the rest of a partition to later claims.
    fn end(&mut self, partition: usize) {
        for stream in self.streams.iter_mut().filter(|stream| stream.partition == partition) {
            stream.read.clear();
            stream.ended = true;
        }
    }

    /// So many more candidates at the most, those due for longest first; none if there are no more.
    /// Fails if no partition can be read.
    async fn next(&mut self, most: usize) -> Result<Vec<Candidate>, Trouble> {
        while self.streams.iter().any(Stream::is_dry) {
            self.refill().await?;
        }
        let mut next = Vec::new();
        while next.len() < most {
            let heads = self.streams.iter_mut().filter(|stream| !stream.read.is_empty());
            let oldest = heads.min_by_key(|stream| stream.read.last().map(|it| it.due_at));
            let Some(stream) = oldest else { break };
            next.extend(stream.read.pop());
            if stream.is_dry() {
                // What comes next there may have been due for longer than what comes elsewhere.
                break;
            }
        }
        Ok(next)
    }

    /// Reads on in all streams that have run dry, those of one partition together. A partition that
    /// can't be read ends.
    async fn refill(&mut self) -> Result<(), Trouble> {
        let mut groups: BTreeMap<usize, Vec<&mut Stream>> = BTreeMap::new();
        for stream in self.streams.iter_mut().filter(|stream| stream.is_dry()) {
            groups.entry(stream.partition).or_default().push(stream);
        }
        let (shared, claim, chunk, give_up) = (self.shared, self.claim, self.chunk, self.give_up);
        let reads = groups.into_iter().map(|(n, streams)| async move {
            let partition = &shared.keys.partitions[n];
            let read = |stream: &&mut Stream| {
                let (first, last) = stream.range(claim.now);
                let mut read = cmd("ZRANGEBYLEX");
                read.arg(&partition.index).arg(first).arg(last).arg("LIMIT").arg(0).arg(chunk);
                read
            };
            let calls: Vec<_> = streams.iter().map(read).collect();
            // A cluster that is not in order is not waited for: the next claim looks again.
            let (patience, slot) = (Duration::ZERO, partition.slot);
            let replies = shared.servers.send_within(patience, Effect::Read, slot, &calls);
            let result = match timeout_at(give_up, replies).await {
                Ok(replies) => replies.and_then(|replies| {
                    streams.into_iter().zip(replies).try_for_each(|(stream, reply)| {
                        stream.take_in(reply::all_bytes(reply)?, claim, chunk)
                    })
                }),
                Err(_) => Err(TimedOut(reading(shared)).into()),
            };
            (n, result)
        });
        let mut trouble = Ok(());
        for (n, result) in join_all(reads).await {
            if result.is_err() {
                self.end(n);
                self.unread.insert(n);
                trouble = trouble.and(result);
            }
        }
        if self.unread.len() < self.shared.keys.partitions.len() {
            if let Err(trouble) = &trouble {
                tracing::debug!(%trouble, "a claim leaves out what can't be read");
            }
            return Ok(());
        }
        trouble
    }
}

/// How long a claim may read.
fn reading(shared: &Shared) -> Duration {
    shared.servers.config().operation_timeout * 5 / 8
}

impl Stream {
    /// Whether nothing is known of what comes next.
    fn is_dry(&self) -> bool {
        self.read.is_empty() && !self.ended
    }

    /// From the first entry that was not read to the last that is due, as Redis writes ranges.
    fn range(&self, now: Timestamp) -> (Vec<u8>, Vec<u8>) {
        let first = match &self.after {
            Some(after) => [b"(", after.as_slice()].concat(),
            None => [b"[", self.beginning.as_slice()].concat(),
        };
        // Longer than what follows the due time, and so after all of that time.
        let last = [&b"["[..], &self.beginning, &entry::ordered(now), &[0xff; 25]].concat();
        (first, last)
    }

    fn take_in(
        &mut self,
        entries: Vec<Vec<u8>>,
        claim: &Claim,
        chunk: usize,
    ) -> Result<(), Trouble> {
        self.ended = entries.len() < chunk;
        self.after = entries.last().cloned().or(self.after.take());
        for entry in entries.into_iter().rev() {
            let (due_at, until) = entry::due_of(&entry).ok_or(Trouble::Damaged("index"))?;
            let id = entry::id_of(&entry).ok_or(Trouble::Damaged("index"))?;
            // One that is leased keeps none that is free from being found.
            if until <= claim.now && !claim.except.contains(&id) {
                self.read.push(Candidate { due_at, id, entry });
            }
        }
        Ok(())
    }
}

/// What came of an attempt to take runs.
struct Taken {
    /// Those that were taken, and when they were due.
    records: Vec<(Timestamp, Record)>,
    /// The partitions in which something went wrong.
    failed: Vec<(usize, Trouble)>,
}

/// Takes those of the candidates that nobody else has taken.
async fn take(shared: &Shared, claim: &Claim, candidates: Vec<Candidate>) -> Taken {
    let mut groups: BTreeMap<usize, Vec<Candidate>> = BTreeMap::new();
    for candidate in candidates {
        groups.entry(shared.keys.of(candidate.id)).or_default().push(candidate);
    }
    let mut taken = Taken { records: Vec::new(), failed: unconfirmed(shared, &groups).await };
    groups.retain(|n, _| taken.failed.iter().all(|(failed, _)| failed != n));
    let batches = groups.iter().flat_map(|(n, group)| group.chunks(TAKEN).map(|it| (*n, it)));
    let takes =
        batches.map(|(n, batch)| async move { (n, take_in(shared, claim, n, batch).await) });
    for (n, result) in join_all(takes).await {
        match result {
            Ok(records) => taken.records.extend(records),
            Err(trouble) => taken.failed.push((n, trouble)),
        }
    }
    taken
}

/// The partitions at servers whose replicas do not confirm writes: a run that was taken there could
/// not be given to anybody, would look like one whose worker died, and after some more such claims
/// like one that kills workers.
async fn unconfirmed(
    shared: &Shared,
    groups: &BTreeMap<usize, Vec<Candidate>>,
) -> Vec<(usize, Trouble)> {
    let servers = &shared.servers;
    if servers.config().wait_replicas == 0 {
        return Vec::new();
    }
    // All that is at the same server is asked about once. What nobody is known to have goes alone.
    let mut partitions: HashMap<_, Vec<usize>> = HashMap::new();
    for (n, partition) in shared.keys.partitions.iter().enumerate() {
        let owner = servers.owner(partition.slot).await.ok().flatten();
        let alone = owner.is_none().then_some(n);
        partitions.entry((owner, alone)).or_default().push(n);
    }
    partitions.retain(|_, them| them.iter().any(|n| groups.contains_key(n)));
    let rehearsals = partitions.into_values().map(|them| async move {
        let trouble = shared.rehearse(them[0]).await.err();
        let failed = |n| trouble.clone().map(|trouble| (n, trouble));
        them.into_iter().filter_map(failed).collect::<Vec<_>>()
    });
    join_all(rehearsals).await.into_iter().flatten().collect()
}

async fn take_in(
    shared: &Shared,
    claim: &Claim,
    partition: usize,
    batch: &[Candidate],
) -> Result<Vec<(Timestamp, Record)>, Trouble> {
    let partition = &shared.keys.partitions[partition];
    let records: Vec<_> = batch.iter().map(|it| partition.record(it.id)).collect();
    let mut keys = vec![partition.index.as_str()];
    keys.extend(records.iter().map(String::as_str));
    let until = entry::ordered(claim.until());
    let (now, expiry) = (rows::digits(claim.now.as_millis()), shared.expiry());
    let mut arguments: Vec<&[u8]> = vec![claim.owner.as_bytes(), &until, &now, &expiry];
    arguments.extend(batch.iter().flat_map(|it| [it.id.as_bytes().as_slice(), &it.entry]));
    let servers = &shared.servers;
    let reply = CLAIM.run(servers, Effect::Write, partition.slot, &keys, &arguments).await?;
    let taken = batch.iter().zip(reply::list(reply)?).filter(|(_, reply)| *reply != Value::Nil);
    readable(taken.map(|(candidate, reply)| {
        let record = rows::record(candidate.id, reply).and_then(|it| it.ok_or(Trouble::Confused));
        (Some(candidate.id), record.map(|record| (candidate.due_at, record)))
    }))
}
