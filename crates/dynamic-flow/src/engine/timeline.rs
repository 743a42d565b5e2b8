//! What happens to a run in which order.

use std::collections::VecDeque;

use super::{machine::Event, state::Snapshot};
use crate::clock::Timestamp;

/// Events that wait to be worked in. Between them come the timers, each at its own time, however
/// late that is noticed: a run comes to the same whenever somebody drives it.
pub(crate) struct Timeline {
    events: VecDeque<(Event, Timestamp)>,
    /// The timer that went off last: one that did nothing is not tried again.
    fired: Option<Timestamp>,
}

impl Timeline {
    pub(crate) fn new(events: VecDeque<(Event, Timestamp)>) -> Self {
        Self { events, fired: None }
    }

    /// What happens next to a run in that state, and when it happened.
    pub(crate) fn next(&mut self, snapshot: &Snapshot) -> Option<(Event, Timestamp)> {
        let (event, at) = self.events.front()?;
        let due =
            snapshot.due_at().filter(|due| *due < *at && self.fired.is_none_or(|it| it < *due));
        match due {
            Some(due) if !event.stops_timers() => {
                self.fired = Some(due);
                Some((Event::Tick, due))
            }
            _ => self.events.pop_front(),
        }
    }

    /// Has something happen next.
    pub(crate) fn push(&mut self, event: Event, at: Timestamp) {
        self.events.push_front((event, at));
    }
}

impl Event {
    /// Whether nothing is to be begun any more before it.
    fn stops_timers(&self) -> bool {
        matches!(self, Self::Cancelled(_) | Self::KeyAdded { .. } | Self::Retried)
    }
}
