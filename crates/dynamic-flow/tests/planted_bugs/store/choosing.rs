//! Which records the planted store gives to whoever claims or lists.

use std::{collections::BTreeSet, time::Duration};

use dynamic_flow::{
    Clock as _, RunStatus, Scalar, SystemClock, Timestamp,
    store::{Claim, Filter, Queue, Record},
};

use super::{Bug, Planted};

impl Planted {
    pub(super) fn admits(&self, claim: &Claim, record: &Record, first: &Record) -> bool {
        let due_at = match self.bug {
            Bug::ClaimByFirstDueTime => first.due_at,
            Bug::ClaimByStaleIndex => record.due_at.or(first.due_at),
            _ => record.due_at,
        };
        let due = due_at.is_some_and(|at| match self.bug {
            Bug::ClaimIgnoresDueTime => true,
            Bug::ClaimAfterDueOnly => at < claim.now,
            Bug::ClaimWaitsForItsClock => at <= claim.now.min(SystemClock.now()),
            _ => at <= claim.now,
        });
        let queued = match &record.queue {
            None => self.is(Bug::ClaimTakesUnqueued),
            Some(_) if self.is(Bug::ClaimIgnoresQueues) => true,
            Some(queue) if self.is(Bug::ClaimIgnoresCase) => {
                let lower = |queue: &Queue| queue.0.to_lowercase();
                claim.queues.iter().any(|other| lower(other) == lower(queue))
            }
            Some(queue) => claim.queues.contains(queue),
        };
        let free = record.lease.as_ref().is_none_or(|lease| match self.bug {
            Bug::ClaimIgnoresLeases | Bug::ClaimLimitsBeforeLeases => true,
            Bug::ClaimAfterLapseOnly => lease.until < claim.now,
            _ => lease.until <= claim.now,
        });
        let wanted = match self.bug {
            Bug::ClaimIgnoresExceptions | Bug::ClaimLimitsBeforeExceptions => true,
            _ => !claim.except.contains(&record.id),
        };
        due && queued && free && wanted
    }

    pub(super) fn take(&self, claim: &Claim, record: &mut Record) -> Record {
        let before = record.clone();
        claim.apply(record);
        match self.bug {
            Bug::EpochIsRemembered => {
                let mut epochs = self.epochs.lock().unwrap();
                let mine = epochs.entry(record.id).and_modify(|epoch| *epoch = epoch.next());
                record.epoch = *mine.or_insert(record.epoch);
            }
            Bug::ClaimKeepsEpoch => record.epoch = before.epoch,
            Bug::ClaimKeepsRevision => record.revision = before.revision,
            Bug::ClaimKeepsAttempts => record.attempts = before.attempts,
            Bug::ClaimKeepsDueTime => record.due_at = before.due_at,
            Bug::ClaimRunsWhatEnded => record.status = RunStatus::Running,
            _ => {}
        }
        match self.bug {
            Bug::ClaimGivesWhatWas => before,
            Bug::ClaimLeavesOutTheInbox => Record { inbox: vec![], ..record.clone() },
            _ => record.clone(),
        }
    }

    pub(super) fn matches(&self, filter: &Filter, record: &Record, first: &Record) -> bool {
        let mut filter = filter.clone();
        let mut record = record.clone();
        let later = |at: Timestamp| at.after(Duration::from_millis(1));
        match self.bug {
            Bug::BoundsYieldToOthers
                if !filter.status.is_empty() && !filter.metadata.is_empty() =>
            {
                (filter.created_after, filter.created_before) = (None, None);
            }
            // It is the index in which it differs from zero, so the one who asks does not see it.
            Bug::NegativeZeroIsStored => {
                let is_negative = |value: &Scalar| matches!(value, Scalar::Float(float) if float.to_bits() == 1 << 63);
                record.metadata.retain(|_, value| !is_negative(value));
            }
            // An index entry has a limit, which texts that compress well do not come to.
            Bug::LongTextsHaveNoIndex => {
                let kinds = |text: &str| text.chars().collect::<BTreeSet<_>>().len();
                let is_long = |value: &Scalar| match value {
                    Scalar::Text(text) => text.len() > 2_704 && kinds(text) > 9,
                    _ => false,
                };
                record.metadata.retain(|_, value| !is_long(value));
            }
            Bug::StatusIsIgnored => filter.status.clear(),
            Bug::QueryByFirstState => record = first.clone(),
            Bug::CreatedAfterIsStrict => filter.created_after = filter.created_after.map(later),
            Bug::CreatedBeforeIsLoose => filter.created_before = filter.created_before.map(later),
            Bug::ExpiresAfterIsStrict => filter.expires_after = filter.expires_after.map(later),
            Bug::ExpiresBeforeIsLoose => filter.expires_before = filter.expires_before.map(later),
            Bug::CriteriaMeanOr if filter.flow_id.is_some() && filter.tool_id.is_some() => {
                let by_flow = Filter { tool_id: None, ..filter.clone() };
                return by_flow.matches(&record)
                    || Filter { flow_id: None, ..filter }.matches(&record);
            }
            Bug::WaitsAreTakenTogether if filter.concerns_waits() => {
                let by_tool =
                    Filter { expires_after: None, expires_before: None, ..filter.clone() };
                return by_tool.matches(&record)
                    && Filter { tool_id: None, ..filter }.matches(&record);
            }
            Bug::MetadataAsText | Bug::MetadataAsNumbers => {
                let loose = |value: &mut Scalar| {
                    *value = match &*value {
                        Scalar::Int(number) if self.is(Bug::MetadataAsNumbers) => {
                            Scalar::Float(*number as f64)
                        }
                        other if self.is(Bug::MetadataAsText) => Scalar::Text(other.to_string()),
                        other => other.clone(),
                    };
                };
                record.metadata.values_mut().for_each(loose);
                filter.metadata.values_mut().for_each(loose);
            }
            Bug::NamesIgnoreCase => {
                let lower = |id: &str| id.to_lowercase();
                filter.flow_id = filter.flow_id.map(|id| lower(id.as_str()).into());
                record.flow_id = lower(record.flow_id.as_str()).into();
            }
            _ => {}
        }
        filter.matches(&record)
    }
}
