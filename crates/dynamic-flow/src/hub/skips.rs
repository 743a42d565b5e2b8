//! Which runs a worker leaves alone for a while, since it could not go on with them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Mutex,
    time::Duration,
};

use super::lease::lock;
use crate::{clock::Timestamp, id::RunId};

/// How many runs are remembered, as each claim names those that it does not want.
const MOST: usize = 1000;
/// The longest pause, in seconds.
const LONGEST: u32 = 60;

/// The runs that this hub could not go on with. Others are offered each at once, for one of them may
/// be able to: it has the key, or the flow that fits. This one asks for it again after a pause that
/// grows, for nobody may be.
#[derive(Debug, Default)]
pub(super) struct Skips(Mutex<HashMap<RunId, Skipped>>);

#[derive(Debug)]
struct Skipped {
    /// For how long it is left alone, in seconds; the next time for twice as long.
    pause: u32,
    at: Timestamp,
}

impl Skipped {
    fn until(&self) -> Timestamp {
        self.at.after(seconds(self.pause))
    }
}

impl Skips {
    /// Leaves a run alone for a while; gives when it is to be offered to anybody: now, or later where
    /// there are too many to be remembered, so that they are not offered here over and over.
    pub(super) fn skip(&self, run: RunId, now: Timestamp) -> Timestamp {
        let mut skips = lock(&self.0);
        if skips.len() >= MOST {
            // Others have gone on with those that were not offered here for long.
            skips.retain(|_, skipped| skipped.at.after(seconds(2 * LONGEST)) > now);
        }
        let pause = match skips.get(&run) {
            Some(known) => (known.pause * 2).min(LONGEST),
            None if skips.len() >= MOST => return now.after(seconds(LONGEST)),
            None => 1,
        };
        skips.insert(run, Skipped { pause, at: now });
        now
    }

    /// Those that this hub is not to be offered now.
    pub(super) fn left_alone(&self, now: Timestamp) -> BTreeSet<RunId> {
        let skips = lock(&self.0);
        skips.iter().filter(|(_, skipped)| skipped.until() > now).map(|(run, _)| *run).collect()
    }

    /// Forgets a run that this hub has gone on with.
    pub(super) fn forget(&self, run: RunId) {
        lock(&self.0).remove(&run);
    }
}

fn seconds(n: u32) -> Duration {
    Duration::from_secs(n.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_420_800_000);

    fn run(n: usize) -> RunId {
        RunId::from_bytes((n as u128).to_be_bytes())
    }

    /// Skips a run that others may have at once; gives for how long it is left alone.
    fn pause(skips: &Skips, run: RunId, now: Timestamp) -> u32 {
        assert_eq!(skips.skip(run, now), now);
        let is_left_alone = |at| skips.left_alone(at).contains(&run);
        let pause = (0..).find(|pause| !is_left_alone(now.after(seconds(*pause))));
        pause.unwrap()
    }

    #[test]
    fn the_pause_doubles_up_to_a_minute_and_begins_anew_once_the_run_was_driven() {
        let skips = Skips::default();
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(pause(&skips, run(1), NOW), expected);
        }
        assert_eq!(pause(&skips, run(2), NOW), 1, "each run has pauses of its own");
        skips.forget(run(1));
        assert!(!skips.left_alone(NOW).contains(&run(1)));
        assert_eq!(pause(&skips, run(1), NOW), 1);
    }

    #[test]
    fn more_runs_than_are_remembered_keep_no_worker_busy_and_make_room_in_time() {
        let skips = Skips::default();
        for n in 0..MOST {
            skips.skip(run(n), NOW);
        }
        assert_eq!(skips.skip(run(MOST), NOW), NOW.after(seconds(LONGEST)));
        assert_eq!(skips.left_alone(NOW).len(), MOST, "no claim names more");
        assert_eq!(pause(&skips, run(0), NOW), 2, "what is known stays known");
        let later = NOW.after(seconds(2 * LONGEST));
        assert_eq!(pause(&skips, run(MOST), later), 1);
        assert_eq!(lock(&skips.0).len(), 1);
    }
}
