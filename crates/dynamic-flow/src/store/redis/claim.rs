//! Who gets which run: the partitions are looked at first, and then those runs are taken that have
//! been due for longest over all of them, and no others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::future::{join_all, try_join_all};
use redis::{Value, cmd};

use super::{Shared, entry, reply, rows, script::CLAIM, servers::Effect, trouble::Trouble};
use crate::{
    clock::Timestamp,
    id::RunId,
    store::{Claim, Queue, Record},
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
    while given.len() < claim.limit {
        let wanted = claim.limit - given.len();
        // What was given so far is the caller's, whatever happens to the rest.
        let (taken, trouble) = match streams.next(wanted).await {
            Ok(candidates) if candidates.is_empty() => break,
            Ok(candidates) => take(shared, claim, candidates).await,
            Err(trouble) => (Vec::new(), Some(trouble)),
        };
        given.extend(taken);
        match trouble {
            Some(trouble) if given.is_empty() => return Err(trouble),
            Some(trouble) => {
                tracing::debug!(%trouble, "a claim gives fewer runs than it might");
                break;
            }
            None => {}
        }
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
        Self { shared, claim, chunk: claim.limit.min(CHUNK), streams: streams.collect() }
    }

    /// So many more candidates at the most, those due for longest first; none if there are no more.
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

    /// Reads on in all streams that have run dry, those of one partition together.
    async fn refill(&mut self) -> Result<(), Trouble> {
        let mut groups: BTreeMap<usize, Vec<&mut Stream>> = BTreeMap::new();
        for stream in self.streams.iter_mut().filter(|stream| stream.is_dry()) {
            groups.entry(stream.partition).or_default().push(stream);
        }
        let (shared, claim, chunk) = (self.shared, self.claim, self.chunk);
        let reads = groups.into_iter().map(|(n, streams)| async move {
            let partition = &shared.keys.partitions[n];
            let read = |stream: &&mut Stream| {
                let (first, last) = stream.range(claim.now);
                let mut read = cmd("ZRANGEBYLEX");
                read.arg(&partition.index).arg(first).arg(last).arg("LIMIT").arg(0).arg(chunk);
                read
            };
            let calls: Vec<_> = streams.iter().map(read).collect();
            let replies = shared.servers.send(Effect::Read, partition.slot, &calls).await?;
            streams.into_iter().zip(replies).try_for_each(|(stream, reply)| {
                stream.take_in(reply::all_bytes(reply)?, claim.now, chunk)
            })
        });
        try_join_all(reads).await.map(drop)
    }
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
        now: Timestamp,
        chunk: usize,
    ) -> Result<(), Trouble> {
        self.ended = entries.len() < chunk;
        self.after = entries.last().cloned().or(self.after.take());
        for entry in entries.into_iter().rev() {
            let (due_at, until) = entry::due_of(&entry).ok_or(Trouble::Damaged("index"))?;
            let id = entry::id_of(&entry).ok_or(Trouble::Damaged("index"))?;
            // One that is leased keeps none that is free from being found.
            if until <= now {
                self.read.push(Candidate { due_at, id, entry });
            }
        }
        Ok(())
    }
}

/// Takes those of the candidates that nobody else has taken; gives them with the time at which
/// they were due, and what went wrong in some partition.
async fn take(
    shared: &Shared,
    claim: &Claim,
    candidates: Vec<Candidate>,
) -> (Vec<(Timestamp, Record)>, Option<Trouble>) {
    let mut groups: BTreeMap<usize, Vec<Candidate>> = BTreeMap::new();
    for candidate in candidates {
        groups.entry(shared.keys.of(candidate.id)).or_default().push(candidate);
    }
    let mut trouble = confirmed(shared, &mut groups).await.err();
    let batches = groups.iter().flat_map(|(n, group)| group.chunks(TAKEN).map(|it| (*n, it)));
    let results = join_all(batches.map(|(n, batch)| take_in(shared, claim, n, batch))).await;
    let mut given = Vec::new();
    for result in results {
        match result {
            Ok(taken) => given.extend(taken),
            Err(error) => trouble = trouble.or(Some(error)),
        }
    }
    (given, trouble)
}

/// Leaves out what is at servers whose replicas do not confirm writes: a run that was taken there
/// could not be given to anybody, would look like one whose worker died, and after some more such
/// claims like one that kills workers.
async fn confirmed(
    shared: &Shared,
    groups: &mut BTreeMap<usize, Vec<Candidate>>,
) -> Result<(), Trouble> {
    let servers = &shared.servers;
    if servers.config().wait_replicas == 0 {
        return Ok(());
    }
    // One partition speaks for all that are at the same server.
    let mut partitions: HashMap<_, Vec<usize>> = HashMap::new();
    for n in groups.keys() {
        let owner = servers.owner(shared.keys.partitions[*n].slot).await?;
        partitions.entry(owner).or_default().push(*n);
    }
    let rehearsals = partitions.values().map(|them| shared.rehearse(them[0]));
    let results = join_all(rehearsals).await;
    let mut trouble = Ok(());
    for (them, result) in partitions.values().zip(results) {
        if result.is_err() {
            groups.retain(|n, _| !them.contains(n));
            trouble = trouble.and(result);
        }
    }
    trouble
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
    let mut given = Vec::new();
    for (candidate, reply) in batch.iter().zip(reply::list(reply)?) {
        if reply == Value::Nil {
            continue;
        }
        let record = rows::record(candidate.id, reply)?.ok_or(Trouble::Confused)?;
        given.push((candidate.due_at, record));
    }
    Ok(given)
}
