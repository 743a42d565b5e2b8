//! Carrying runs over that an earlier version of a flow parked.

mod state;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

pub use self::state::RunState;
use super::Flow;
use crate::{
    Error, ErrorKind, Result, ToolError,
    engine::{FlowStamp, Snapshot, panicked},
    wait::ContentDigest,
};

/// What makes the state of an earlier version into that of this one.
#[derive(Clone)]
pub(super) struct Upgrade {
    from: ContentDigest,
    carry: Arc<Carry>,
}

type Carry = dyn Fn(&mut RunState) -> Result<(), ToolError> + Send + Sync;

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upgrade(from {})", self.from.0)
    }
}

impl<I, O> Flow<I, O> {
    /// Carries the state of runs over that were parked by the version of that fingerprint
    /// ([`Flow::fingerprint`], which [`RunView::fingerprint`](crate::hub::RunView) tells of each run).
    ///
    /// The closure changes the [state](RunState) in memory; whether this flow can go on with the result
    /// is checked as ever, before anything is consumed, and it is stored at the next commit, or when somebody
    /// looks at a question that it changes. It may
    /// run more than once for a run and must give the same each time. Where two versions differ in
    /// closures alone they have the same fingerprint, and an upgrade from that is applied to all runs, each
    /// time that one is opened: give one of the steps another id instead.
    ///
    /// What this flow has committed, the version of that fingerprint does not go on with any more, however
    /// well it fits: the change would be made once more. A version to which you go back on purpose says
    /// `upgrade` in turn, from the fingerprint of this flow.
    ///
    /// ```
    /// use dynamic_flow::{Flow, wait::ContentDigest};
    ///
    /// // The fingerprint as the old version had it, for its code is gone by now.
    /// const OLD: &str = "15257949a2fdac8184e8e6b2d6dd7dad896384286b5ed66b2c8282336dc80d05";
    ///
    /// let new = Flow::input::<i64>("f")
    ///     .sleep("rest", dynamic_flow::hours(1))
    ///     .build()?
    ///     .upgrade(ContentDigest(OLD.into()), |state| state.rename_step("pause", "rest"));
    /// # let _ = new;
    /// # let old = Flow::input::<i64>("f").sleep("pause", dynamic_flow::hours(1)).build()?;
    /// # assert_eq!(old.fingerprint()?.0, OLD);
    /// # Ok::<(), dynamic_flow::Error>(())
    /// ```
    #[must_use]
    pub fn upgrade(
        mut self,
        from: ContentDigest,
        carry: impl Fn(&mut RunState) -> Result<(), ToolError> + Send + Sync + 'static,
    ) -> Self {
        self.upgrades.push(Upgrade { from, carry: Arc::new(carry) });
        self
    }

    fn upgrade_of(&self, snapshot: &Snapshot) -> Option<&Upgrade> {
        self.upgrades.iter().find(|upgrade| upgrade.from == snapshot.flow.fingerprint)
    }

    /// The versions that are not to go on with a run any more once this one commits it: those that it
    /// carries runs over from, also where it has carried nothing over in this one, and those before.
    pub(crate) fn outgrown(&self, before: &FlowStamp) -> Result<Vec<ContentDigest>> {
        let mut outgrown = before.outgrown.clone();
        for Upgrade { from, .. } in &self.upgrades {
            outgrown.retain(|known| known != from);
            outgrown.push(from.clone());
        }
        let own = self.fingerprint()?;
        outgrown.retain(|known| known != own);
        let surplus = outgrown.len().saturating_sub(FlowStamp::MAX_OUTGROWN);
        outgrown.drain(..surplus);
        Ok(outgrown)
    }

    /// Whether there is an upgrade for the version that parked the run.
    pub(crate) fn upgrades_from(&self, snapshot: &Snapshot) -> bool {
        self.upgrade_of(snapshot).is_some()
    }

    /// The state as this version goes on with it.
    pub(crate) fn carry_over(&self, snapshot: Snapshot) -> Result<Snapshot> {
        let Some(upgrade) = self.upgrade_of(&snapshot) else { return Ok(snapshot) };
        let mut state = RunState::new(snapshot);
        let carry = AssertUnwindSafe(|| (upgrade.carry)(&mut state));
        let carried = catch_unwind(carry).unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        match carried {
            Ok(()) => Ok(state.into_snapshot(&self.def)),
            Err(error) => Err(Error::new(
                ErrorKind::FlowIncompatible,
                format!("the upgrade could not carry the run over: {error}"),
            )
            .with_run(state.run_id())
            .with("flow", &self.def.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: usize) -> ContentDigest {
        ContentDigest(n.to_string())
    }

    fn flow(from: impl IntoIterator<Item = usize>) -> Flow<i64, i64> {
        let flow = Flow::input::<i64>("f").sleep("nap", crate::hours(1)).build().unwrap();
        from.into_iter().fold(flow, |flow, n| flow.upgrade(digest(n), |_| Ok(())))
    }

    fn outgrown(flow: &Flow<i64, i64>, before: Vec<ContentDigest>) -> Vec<ContentDigest> {
        let before = FlowStamp { outgrown: before, ..FlowStamp::unstamped("f".into()) };
        flow.outgrown(&before).unwrap()
    }

    #[test]
    fn what_a_flow_carries_over_from_is_outgrown_beside_what_was_before_and_never_the_flow_itself()
    {
        let own = flow([]).fingerprint().unwrap().clone();
        assert!(outgrown(&flow([]), Vec::new()).is_empty());
        assert_eq!(outgrown(&flow([]), vec![own.clone(), digest(7)]), [digest(7)]);
        let known = flow([1, 2, 1]).upgrade(own.clone(), |_| Ok(()));
        let all = [7, 2, 1].map(digest);
        assert_eq!(outgrown(&known, vec![digest(2), own, digest(7)]), all);
        assert_eq!(outgrown(&known, all.to_vec()), all, "the next commit changes nothing");
    }

    #[test]
    fn of_more_outgrown_versions_than_a_stamp_keeps_the_latest_are_kept() {
        const MOST: usize = FlowStamp::MAX_OUTGROWN;
        let all: Vec<_> = (1..=MOST + 1).map(digest).collect();
        assert_eq!(outgrown(&flow([MOST + 1]), all[..MOST].to_vec()), all[1..]);
        assert_eq!(outgrown(&flow(1..=MOST + 1), vec![digest(0)]), all[1..]);
    }

    #[test]
    fn a_stamp_that_has_outgrown_nothing_is_written_and_read_as_ever() {
        let stamp = FlowStamp::unstamped("f".into());
        let written = serde_json::json!({ "id": "f", "fingerprint": "", "steps": [] });
        assert_eq!(serde_json::to_value(&stamp).unwrap(), written);
        assert_eq!(serde_json::from_value::<FlowStamp>(written).unwrap(), stamp);
    }
}
