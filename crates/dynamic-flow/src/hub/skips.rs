//! How soon a run is offered again that a worker could not go on with.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use super::lease::lock;
use crate::{clock::Timestamp, id::RunId};

/// How many runs are known to have been skipped; whatever is skipped beyond them has the longest pause.
const MOST: usize = 10_000;
/// The longest pause, in seconds.
const LONGEST: u32 = 60;

/// The runs that this hub could not go on with. Each is offered again soon, for another worker may
/// be able to: it has the key, or the flow that fits. Where this one is given it over and over,
/// nobody is, and the pauses grow.
#[derive(Debug, Default)]
pub(super) struct Skips(Mutex<HashMap<RunId, Skipped>>);

#[derive(Debug)]
struct Skipped {
    /// The pause that the next one is twice as long as, in seconds.
    pause: u32,
    at: Timestamp,
}

impl Skips {
    /// When a run is offered again that is skipped now.
    pub(super) fn again(&self, run: RunId, now: Timestamp) -> Timestamp {
        let mut skips = lock(&self.0);
        if skips.len() >= MOST {
            // Others go on with those that were not offered here for long.
            skips.retain(|_, skipped| skipped.at.after(seconds(2 * LONGEST)) > now);
        }
        let pause = match skips.get(&run) {
            Some(known) => (known.pause * 2).min(LONGEST),
            None if skips.len() >= MOST => LONGEST,
            None => 1,
        };
        if skips.len() < MOST || skips.contains_key(&run) {
            skips.insert(run, Skipped { pause, at: now });
        }
        now.after(seconds(pause))
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

    fn pause(skips: &Skips, run: RunId, now: Timestamp) -> Duration {
        now.until(skips.again(run, now))
    }

    #[test]
    fn the_pause_doubles_up_to_a_minute_and_begins_anew_once_the_run_was_driven() {
        let skips = Skips::default();
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(pause(&skips, run(1), NOW), seconds(expected));
        }
        assert_eq!(pause(&skips, run(2), NOW), seconds(1), "each run has pauses of its own");
        skips.forget(run(1));
        assert_eq!(pause(&skips, run(1), NOW), seconds(1));
    }

    #[test]
    fn more_runs_than_are_remembered_keep_no_worker_busy_and_make_room_in_time() {
        let skips = Skips::default();
        for n in 0..MOST {
            skips.again(run(n), NOW);
        }
        assert_eq!(pause(&skips, run(MOST), NOW), seconds(LONGEST));
        assert_eq!(pause(&skips, run(0), NOW), seconds(2), "what is known stays known");
        let later = NOW.after(seconds(2 * LONGEST));
        assert_eq!(pause(&skips, run(MOST), later), seconds(1));
        assert_eq!(lock(&skips.0).len(), 1);
    }
}
