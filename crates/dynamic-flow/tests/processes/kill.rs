//! A process is killed before and after each call of its store, and between every two steps.

mod client;
mod promises;

pub(crate) use self::client::client;
use self::promises::check;
use crate::support::{Ground, Place, Process, on_each_store};

on_each_store!(
    nothing_acknowledged_is_lost_and_nothing_committed_runs_again,
    nothing_is_lost_either_when_each_step_is_committed,
    nothing_is_lost_when_the_recovery_is_killed_as_well,
);

/// Lives that end at these points, and one that ends well; gives where each stood when it was
/// killed, as far as it came there.
fn lives(place: &Place, every_step: bool, points: &[u64]) -> Vec<Option<String>> {
    let life = |life: usize, last: Option<u64>| {
        let mut settings = vec![("LIFE", life.to_string()), ("EVERY_STEP", every_step.to_string())];
        settings.extend(last.map(|last| ("LAST_POINT", last.to_string())));
        let mut process = Process::start("client", place, &settings);
        let stands = process.hear();
        match &stands {
            Some(_) => process.kill(),
            None => process.end(),
        }
        stands
    };
    let mut stood: Vec<_> =
        points.iter().enumerate().map(|(n, point)| life(n, Some(*point))).collect();
    assert_eq!(life(points.len(), None), None);
    stood.push(None);
    stood
}

/// Kills a process at each point that it passes, one after the other, or at each that many; gives what
/// the points were.
fn at_each_point(ground: &Ground, every_step: bool, step: usize) -> Vec<String> {
    let mut points = Vec::new();
    for point in (0..).step_by(step) {
        let place = Place::new(ground);
        let stood = lives(&place, every_step, &[point]);
        check(&place, every_step);
        match &stood[0] {
            Some(label) => points.push(label.clone()),
            None => break,
        }
    }
    points
}

fn nothing_acknowledged_is_lost_and_nothing_committed_runs_again(ground: &Ground) {
    let points = at_each_point(ground, false, 1);
    let calls =
        ["provision", "insert", "get", "update", "commit", "claim", "renew", "query", "delete"];
    for call in calls {
        for side in ["before", "after"] {
            let label = format!("{side} {call}");
            assert!(points.contains(&label), "it was never killed {label}: {points:?}");
        }
    }
    for tool in ["check", "weigh", "book", "pay", "mail", "ship"] {
        for side in ["before", "after"] {
            let label = format!("in {tool}, {side} its work");
            assert_eq!(points.iter().filter(|point| **point == label).count(), 1, "{points:?}");
        }
    }
}

fn nothing_is_lost_either_when_each_step_is_committed(ground: &Ground) {
    let step = ground.step();
    let points = at_each_point(ground, true, step);
    assert!(points.len() > 50 / step, "{points:?}");
}

fn nothing_is_lost_when_the_recovery_is_killed_as_well(ground: &Ground) {
    let mut dice = 7_u64;
    for first in (0..).step_by(ground.step()) {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let place = Place::new(ground);
        let stood = lives(&place, false, &[first, (dice >> 33) % 50, (dice >> 40) % 50]);
        check(&place, false);
        if stood[0].is_none() {
            break;
        }
    }
}
