//! The flows that a hub knows: registered ones, and those that runs carry as documents.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use super::{Inner, inbox::Accept, lease::lock, state::STATE_FLOW, vault::Opened};
use crate::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    engine::{Branch, FlowStamp, Snapshot, StepState},
    flow::{Body, Fit, Flow, FlowDef, StepKind},
    id::{RunId, WaitId},
    schema::Schema,
    store::Queue,
    wait::{Metadata, Wait},
};

/// A flow, and what is worked out of it once.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) def: Arc<FlowDef>,
    flow: Option<Flow>,
}

impl Known {
    pub(crate) fn new(flow: &Flow) -> Self {
        Self { def: flow.def().clone(), flow: Some(flow.clone()) }
    }

    /// A flow without steps in place of one whose code is not here: enough to end a run of it.
    pub(crate) fn nothing(snapshot: &Snapshot) -> Self {
        Self { def: Arc::new(FlowDef::empty(snapshot.flow.id.clone())), flow: None }
    }

    /// Which workers may claim its runs.
    pub(crate) fn queue(&self) -> Queue {
        match self.def.document {
            Some(_) => Queue::documents(),
            None => Queue::of_flow(&self.def.id),
        }
    }

    /// What a snapshot says of its flow.
    pub(crate) fn stamp(&self, snapshot: &Snapshot) -> Result<FlowStamp> {
        match &self.flow {
            Some(flow) => Ok(FlowStamp {
                outgrown: flow.outgrown(&snapshot.flow)?,
                ..FlowStamp::of(&self.def, flow.fingerprint()?, &snapshot.root)
            }),
            None => Ok(snapshot.flow.clone()),
        }
    }

    /// A run at the very start of the flow.
    pub(crate) fn start(&self, run: RunId, input: Value, metadata: Metadata) -> Result<Snapshot> {
        let nowhere = FlowStamp::unstamped(self.def.id.clone());
        let mut snapshot = Snapshot::start(run, nowhere, &self.def.body, input);
        snapshot.metadata = metadata;
        snapshot.flow = self.stamp(&snapshot)?;
        Ok(snapshot)
    }

    /// The snapshot as this flow goes on with it: as it is, or as an upgrade makes it.
    pub(crate) fn carry_over(&self, snapshot: Snapshot) -> Result<Snapshot> {
        match &self.flow {
            Some(flow) => flow.carry_over(snapshot),
            None => Ok(snapshot),
        }
    }

    /// Makes sure that an upgrade to this flow leaves no wait behind whose answer was accepted, and
    /// still has a use for the answer.
    ///
    /// # Errors
    /// `FlowIncompatible` where it does not.
    pub(crate) fn check_keeps_answers(&self, opened: &Opened) -> Result<()> {
        opened
            .inbox
            .iter()
            .filter_map(|item| match &item.what {
                Accept::Answer { wait_id, answer, .. } => {
                    opened.snapshot.wait(wait_id).map(|wait| (wait, answer))
                }
                _ => None,
            })
            .try_for_each(|(wait, answer)| {
                let carried = self.carried(&opened.snapshot, wait)?;
                let asks = carried.as_ref().unwrap_or(wait);
                let schema = self.compiled(asks, &opened.snapshot.root);
                schema.validate(&answer.input).map_err(|_| {
                    let reason = "what was answered does not fit what this flow asks";
                    unusable(&opened.snapshot, wait, reason)
                })
            })
    }

    /// A wait as an upgrade to this flow makes it; none where there is no upgrade.
    ///
    /// # Errors
    /// `FlowIncompatible` where the upgrade leaves it behind.
    pub(crate) fn carried(&self, snapshot: &Snapshot, wait: &Wait) -> Result<Option<Wait>> {
        let Some(flow) = self.flow.as_ref().filter(|flow| flow.upgrades_from(snapshot)) else {
            return Ok(None);
        };
        let mut carried = flow.carry_over(snapshot.clone())?;
        carried.close_orphans(Timestamp::from_millis(0));
        match carried.wait(&wait.id) {
            Some(wait) => Ok(Some(wait.clone())),
            None => {
                Err(unusable(snapshot, wait, "the upgrade of this flow has no use for the wait"))
            }
        }
    }

    /// The schema of a wait as this flow has compiled it, where it asks the same: to compile one
    /// costs far more than to check an answer.
    pub(crate) fn compiled<'a>(&'a self, wait: &'a Wait, root: &Branch) -> &'a Schema {
        let asked = &wait.request.schema;
        answers(&self.def.body, root, &wait.id).filter(|own| *own == asked).unwrap_or(asked)
    }

    /// Whether a newer version of the flow has left this one behind.
    pub(crate) fn is_outgrown(&self, snapshot: &Snapshot) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.is_outgrown(snapshot))
    }

    /// Whether this flow can go on with a run.
    pub(crate) fn compare(&self, snapshot: &Snapshot) -> Result<Fit> {
        match &self.flow {
            Some(flow) => match flow.upgrades_from(snapshot) {
                true => Ok(flow.fit(&flow.carry_over(snapshot.clone())?)),
                false => Ok(flow.fit(snapshot)),
            },
            None => Ok(Fit::Same),
        }
    }
}

/// The documents of runs that are kept read.
#[derive(Debug, Default)]
pub(super) struct Documents {
    known: HashMap<Arc<str>, Arc<Known>>,
    weight: usize,
}

impl Documents {
    /// How many there are at most.
    const MOST: usize = 256;
    /// How much they weigh together at most: their texts, and their regular expressions, compiled.
    const MAX_WEIGHT: usize = 256 << 20;

    /// Keeps one that was read, unless somebody else has read it meanwhile; gives the one that is
    /// kept. Where there is no room, the others go: those that are in use are read again.
    fn keep(&mut self, text: &Arc<str>, fresh: Arc<Known>, weight: usize) -> Arc<Known> {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        if self.known.len() >= Self::MOST || self.weight + weight > Self::MAX_WEIGHT {
            *self = Self::default();
        }
        self.weight += weight;
        self.known.insert(text.clone(), fresh.clone());
        fresh
    }
}

/// The refusal of an upgrade that has no use for a wait or its answer.
pub(super) fn unusable(snapshot: &Snapshot, wait: &Wait, reason: &'static str) -> Error {
    Error::new(ErrorKind::FlowIncompatible, reason)
        .with_run(snapshot.run_id)
        .with("wait", &wait.id)
        .with_reasons(vec![reason.to_owned()])
}

/// What answers the step takes that stands at a wait.
fn answers<'f>(body: &'f Body, branch: &Branch, wait: &WaitId) -> Option<&'f Schema> {
    let step = &body[branch.find(body)?];
    match (&step.kind, &branch.state) {
        (StepKind::AwaitInput { tool }, StepState::Waiting { wait: here }) => {
            Some(&tool.output).filter(|_| here == wait)
        }
        (kind, StepState::Inside { branches, .. }) => {
            branches.iter().find_map(|inner| answers(kind.body(&inner.body)?, inner, wait))
        }
        _ => None,
    }
}

impl Inner {
    /// The flow of a run: the document that it carries, or the registered flow of its id.
    pub(crate) fn known_flow(&self, snapshot: &Snapshot) -> Result<Arc<Known>> {
        if let Some(document) = &snapshot.flow.document {
            return self.document(document);
        }
        let flows = self.flows.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        flows.get(&snapshot.flow.id).cloned().ok_or_else(|| {
            let message = if snapshot.flow.id.as_str() == STATE_FLOW {
                "this is a state that was suspended by itself, without a flow: its key and \
                 `resume_state` give it back"
            } else {
                "no flow of this id is registered here; register it in every process that resumes"
            };
            Error::new(ErrorKind::FlowNotRegistered, message).with("flow", &snapshot.flow.id)
        })
    }

    /// The flow of a document, read once for as long as it is in use.
    fn document(&self, text: &Arc<str>) -> Result<Arc<Known>> {
        if let Some(known) = lock(&self.documents).known.get(text) {
            return Ok(known.clone());
        }
        // Not under that lock: it may take long, and concerns no run of a document that is known. One at
        // a time, or a worker that begins would read the same one for each of its runs.
        let _reading = lock(&self.reading);
        if let Some(known) = lock(&self.documents).known.get(text) {
            return Ok(known.clone());
        }
        let (flow, pattern_bytes) = Flow::weighed_document_of_run(text, &self.tools)?;
        let weight = text.len() + pattern_bytes;
        Ok(lock(&self.documents).keep(text, Arc::new(Known::new(&flow)), weight))
    }

    /// The flow with which this hub goes on with a run, and with what was accepted for it.
    ///
    /// # Errors
    /// `FlowNotRegistered`, `FlowIncompatible`, and what a document does not read back with; each
    /// names the run.
    pub(crate) fn fitting_flow(&self, opened: &Opened) -> Result<Arc<Known>> {
        let known = self.known_flow(&opened.snapshot);
        let fitting = known.and_then(|flow| self.fit(opened, flow));
        fitting.map_err(|error| error.with_run(opened.record.id))
    }

    /// Gives the flow back if it can go on with the run, and with what was accepted for it.
    pub(crate) fn fit(&self, opened: &Opened, flow: Arc<Known>) -> Result<Arc<Known>> {
        let snapshot = &opened.snapshot;
        match flow.compare(snapshot)? {
            Fit::Same | Fit::Compatible => {
                flow.check_keeps_answers(opened)?;
                Ok(flow)
            }
            Fit::Incompatible(reasons) => Err(Error::new(
                ErrorKind::FlowIncompatible,
                format!("the flow no longer fits the parked run: {}", reasons.join("; ")),
            )
            .with_run(snapshot.run_id)
            .with("flow", &snapshot.flow.id)
            .with_reasons(reasons)),
        }
    }

    /// Which workers may claim a run.
    pub(crate) fn queue_of(&self, snapshot: &Snapshot) -> Queue {
        match snapshot.flow.document {
            Some(_) => Queue::documents(),
            None if snapshot.flow.id == super::state::STATE_FLOW => Queue::states(),
            None => Queue::of_flow(&snapshot.flow.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        hub::{Outcome, PersistenceHub},
        store::MemoryStore,
        tool::ToolRegistry,
    };

    #[test]
    fn documents_are_kept_by_number_and_by_weight() {
        let flow = Arc::new(Known { def: Arc::new(FlowDef::empty("f".into())), flow: None });
        let text = |n: usize| Arc::<str>::from(n.to_string());
        let mut documents = Documents::default();
        let half = Documents::MAX_WEIGHT / 2;
        documents.keep(&text(1), flow.clone(), half);
        documents.keep(&text(2), flow.clone(), half);
        documents.keep(&text(2), flow.clone(), half);
        assert_eq!(documents.known.len(), 2, "one that is there is not weighed again");
        documents.keep(&text(3), flow.clone(), 1);
        assert_eq!((documents.known.len(), documents.weight), (1, 1));
        for n in 0..Documents::MOST {
            documents.keep(&text(100 + n), flow.clone(), 1);
        }
        assert_eq!((documents.known.len(), documents.weight), (1, 1));
    }

    #[tokio::test]
    async fn a_document_is_read_once_and_weighed_with_its_patterns() {
        let text = "flow: f\nsteps:\n  - { id: s, filter: \"${ value.matches('[a-z]{9}') }\" }\n";
        let store = Arc::new(MemoryStore::new());
        let hub = PersistenceHub::builder(store).plaintext().build().await.unwrap();
        let (text, hub) = (Arc::<str>::from(text), hub.inner());
        let first = hub.document(&text).unwrap();
        assert!(Arc::ptr_eq(&first, &hub.document(&text).unwrap()));
        assert!(lock(&hub.documents).weight > text.len());
        assert!(hub.document(&"flow: 1".into()).is_err());
        assert_eq!(lock(&hub.documents).known.len(), 1, "what can't be read is not kept");
    }

    #[tokio::test]
    async fn a_run_goes_on_with_a_document_of_which_more_is_told_by_now() {
        let text = "flow: f\nsteps:\n  - id: ask\n    await_input: { prompt: '?', schema: {} }\n  \
                    - { id: on, filter: true }\n  \
                    - { id: odd, filter: '${ value == 2 ? true : 1 + 1 }' }\n  \
                    - { id: end, filter: false }\n  \
                    - { id: never, set: 1 }\n";
        let tools = ToolRegistry::new();
        assert_eq!(Flow::from_document(text, &tools).unwrap_err().findings().len(), 3);
        let wrong = text.replace("set: 1", "get: nothing");
        assert!(Flow::from_document_of_run(&wrong, &tools).is_err());

        let store = Arc::new(MemoryStore::new());
        let hub =
            async || PersistenceHub::builder(store.clone()).plaintext().build().await.unwrap();
        let old = Flow::from_document_of_run(text, &tools).unwrap();
        let outcome = hub().await.register(&old).unwrap().run(json!(1)).await.unwrap();
        let Outcome::Suspended(parked) = outcome else { panic!("{outcome:?}") };
        let key = parked.only().unwrap().key().unwrap();
        let outcome = hub().await.resume(key, json!(2)).await.unwrap();
        assert!(matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
    }
}
