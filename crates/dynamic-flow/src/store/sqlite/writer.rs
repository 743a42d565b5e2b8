//! The one thread that writes: what waits for it is committed together.

use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    connection::open_to_write,
    operation::{Done, Operation},
    trouble::Trouble,
};

/// How many calls are committed together at the most.
const GROUP: usize = 128;

/// A call, and who waits for its result.
struct Job {
    operation: Operation,
    reply: oneshot::Sender<Result<Done, Trouble>>,
}

/// A hand on the writing thread, which ends when the last hand is gone.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    pub(super) fn start(path: PathBuf) -> Result<Self, Trouble> {
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new()
            .name("dynamic-flow-sqlite".into())
            .spawn(move || work(&path, &receiver))?;
        Ok(Self { jobs: sender })
    }

    pub(super) async fn perform(&self, operation: Operation) -> Result<Done, Trouble> {
        let (reply, result) = oneshot::channel();
        self.jobs.send(Job { operation, reply }).map_err(|_| Trouble::Interrupted)?;
        result.await.unwrap_or(Err(Trouble::Interrupted))
    }
}

fn work(path: &Path, jobs: &mpsc::Receiver<Job>) {
    let mut opened = None;
    while let Ok(first) = jobs.recv() {
        let mut group = vec![first];
        group.extend(jobs.try_iter().take(GROUP - 1));
        let connection = match opened.take().map_or_else(|| open_to_write(path), Ok) {
            Ok(connection) => connection,
            Err(trouble) => {
                answer(group, &trouble);
                continue;
            }
        };
        commit_together(&connection, group);
        // A connection that can't get out of a transaction is of no use to the next group.
        if connection.is_autocommit() {
            opened = Some(connection);
        }
    }
}

/// Makes all calls in one transaction. If one of them breaks it, each is made in its own; but if
/// others held the database for too long, each would wait as long again.
fn commit_together(connection: &Connection, mut group: Vec<Job>) {
    // Whoever has gone away before it began wants it no more; a claim would be for nobody.
    group.retain(|job| !job.reply.is_closed());
    if group.is_empty() {
        return;
    }
    match transact(connection, &group) {
        Ok(results) => {
            for (job, result) in group.into_iter().zip(results) {
                // Whoever went away meanwhile is not told; what was written stays written.
                let _ = job.reply.send(result);
            }
        }
        Err(Broken::Before(trouble)) if group.len() > 1 && !trouble.is_busy() => {
            for job in group {
                commit_together(connection, vec![job]);
            }
        }
        Err(Broken::Before(trouble) | Broken::Commit(trouble)) => answer(group, &trouble),
    }
}

/// Where a transaction broke.
enum Broken {
    /// Nothing of it was written.
    Before(Trouble),
    /// While it was committed: all of it may have been written, or nothing.
    Commit(Trouble),
}

fn transact(connection: &Connection, group: &[Job]) -> Result<Vec<Result<Done, Trouble>>, Broken> {
    let run = |sql| connection.prepare_cached(sql)?.execute([]).map_err(Trouble::from);
    run("BEGIN IMMEDIATE").map_err(Broken::Before)?;
    let performed = group
        .iter()
        .map(|job| match job.operation.perform(connection) {
            Err(trouble) if !trouble.is_refusal() => Err(Broken::Before(trouble)),
            result => Ok(result),
        })
        .collect::<Result<Vec<_>, _>>();
    let result =
        performed.and_then(|results| run("COMMIT").map(|_| results).map_err(Broken::Commit));
    // Some failures have ended the transaction already.
    if result.is_err() && !connection.is_autocommit() {
        let _ = run("ROLLBACK");
    }
    result
}

fn answer(group: Vec<Job>, trouble: &Trouble) {
    for job in group {
        let _ = job.reply.send(Err(trouble.clone()));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    type Answer = oneshot::Receiver<Result<Done, Trouble>>;

    fn jobs(operations: Vec<Operation>) -> (Vec<Job>, Vec<Answer>) {
        let jobs = operations.into_iter().map(|operation| {
            let (reply, answer) = oneshot::channel();
            (Job { operation, reply }, answer)
        });
        jobs.unzip()
    }

    /// Makes the calls as one group, and gives their results.
    pub(in super::super) fn commit(
        connection: &Connection,
        operations: Vec<Operation>,
    ) -> Vec<Result<Done, Trouble>> {
        let (group, mut answers) = jobs(operations);
        commit_together(connection, group);
        answers.iter_mut().map(|answer| answer.try_recv().expect("an answer")).collect()
    }

    /// The same, but whoever made the last call has gone away.
    pub(in super::super) fn commit_all_but_the_last(
        connection: &Connection,
        operations: Vec<Operation>,
    ) {
        let (group, mut answers) = jobs(operations);
        answers.pop();
        commit_together(connection, group);
    }
}
